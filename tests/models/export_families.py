"""Export networks of timm and torchvision, with random weights, by both of PyTorch's exporters.

Run by a Python that has torch 2.14, torchvision 0.29, timm 1.0.31, onnx and onnxscript:

    python tests/models/export_families.py DIRECTORY [NETWORK ...]

For each network, with few of its equal blocks: NAME.script.onnx, NAME.dynamo.onnx, and NAME.npz
with images, logits, and what autograd says of its layers, in float64, with how far float32 is
from it. What an exporter itself refuses is written to NAME.txt. Networks that have an NAME.npz
already are left alone.
"""

import copy
import sys
import warnings
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision

BATCH, CLASSES, SMALL = 2, 10, 128
TARGETS = (1, 3)
TOKENS_BEFORE = (0, 1, 2, 4, 5)  # of the picture's
POSITIONS, LAYOUTS = 1024, 500  # of the layers whose maps are kept; the last of them
TORCHVISION = "torchvision_"  # before the name, else it is timm's
NETWORKS = """
    levit_128s coat_tiny mobilevit_xxs fastvit_t8 gmlp_s16_224 gcvit_xxtiny visformer_tiny
    vit_tiny_patch16_224 deit_tiny_patch16_224 swin_tiny_patch4_window7_224
    swinv2_tiny_window8_256 vit_small_patch14_reg4_dinov2 cait_xxs24_224 pvt_v2_b0
    twins_pcpvt_small twins_svt_small hiera_tiny_224 caformer_s18 eva02_tiny_patch14_224
    beit_base_patch16_224 maxvit_rmlp_pico_rw_256 efficientformer_l1 efficientformerv2_s0
    efficientvit_b0 efficientvit_m0 tiny_vit_5m_224 repvit_m0_9 mixer_s32_224 resmlp_12_224
    gmixer_12_224 coatnet_nano_rw_224 mambaout_femto convnext_atto convnextv2_atto
    focalnet_tiny_srf mobilevitv2_050 poolformer_s12 xcit_nano_12_p16_224 volo_d1_224
    crossvit_9_240 convit_tiny davit_tiny edgenext_xx_small mvitv2_tiny nest_tiny nextvit_small
    pit_ti_224 tnt_s_patch16_224 sequencer2d_s swinv2_cr_tiny_224 vit_relpos_small_patch16_224
    vit_tiny_r_s16_p8_224 vitamin_small_224 samvit_base_patch16_224 vit_base_patch16_siglip_224
    deit3_small_patch16_224 vit_small_patch16_dinov3_qkvb hieradet_small swiftformer_xs shvit_s1
    torchvision_alexnet torchvision_resnet18 torchvision_squeezenet1_0
    torchvision_densenet121 torchvision_inception_v3 torchvision_googlenet
    torchvision_shufflenet_v2_x0_5 torchvision_mobilenet_v2 torchvision_mobilenet_v3_small
    torchvision_mnasnet0_5 torchvision_efficientnet_b0 torchvision_efficientnet_v2_s
    torchvision_regnet_x_400mf torchvision_resnext50_32x4d torchvision_convnext_tiny
    torchvision_vit_b_16 torchvision_swin_t torchvision_swin_v2_t torchvision_maxvit_t
    botnet26t_256 halonet26t lambda_resnet26t bat_resnext26ts gcresnet33ts mobileone_s0
    repvgg_a0 regnetz_005 gernet_s convmixer_768_32 cs3darknet_s cspresnet50 cspnext_tiny
    densenet121 dla34 dpn48b efficientnet_b0 tf_efficientnet_b0 tf_efficientnet_lite0 mixnet_s
    mnasnet_small mobilenetv2_050 fbnetc_100 tinynet_e mobilenetv3_small_050 lcnet_050
    hardcorenas_a mobilenetv4_conv_small mobilenetv4_hybrid_medium ghostnet_100 ghostnetv2_100
    ghostnetv3_050 hgnet_tiny hgnetv2_b0 hrnet_w18_small inception_next_atto
    inception_resnet_v2 inception_v4 legacy_xception xception41 legacy_seresnet18 nf_regnet_b0
    nfnet_l0 rdnet_tiny regnetx_002 regnety_002 repghostnet_050 res2net50_14w_8s resnest14d
    resnet18 ecaresnet26t resnetaa50 resnetv2_50 resnetv2_50x1_bit rexnet_100 selecsls42b
    skresnet18 starnet_s1 tresnet_m vovnet39a ese_vovnet19b_dw fasternet_t0
    lcnetv2_small csatv2 cpubone_b0_bfrobust lowformer_b0 iformer_t efficientvim_m1
    convformer_s18 nasnetalarge pnasnet5large
"""
# Whose blocks, or whose pieces of blocks, are counted elsewhere.
WHOLE = ("efficientvit_m0", "hgnet_tiny", "vovnet39a")
SIZES = {
    "bat_resnext26ts": 256, "halonet26t": 256, "torchvision_alexnet": 224,
    "torchvision_maxvit_t": 224, "torchvision_vit_b_16": 224, "vit_small_patch14_reg4_dinov2": 224,
}  # fmt: skip
# The same operators in narrower layers.
SMALLER = {
    "beit_base_patch16_224": {"embed_dim": 192, "num_heads": 3},
    "samvit_base_patch16_224": {"embed_dim": 192, "num_heads": 3},
    "vit_base_patch16_siglip_224": {"embed_dim": 192, "num_heads": 3},
    "vit_small_patch14_reg4_dinov2": {"img_size": 224},
}


def create(name):
    """The network as its package makes it, with fewer equal blocks, and the size of its input."""
    if name.startswith(TORCHVISION):
        short = name.removeprefix(TORCHVISION)
        options = {"init_weights": True} if short in ("googlenet", "inception_v3") else {}
        network = torchvision.models.get_model(short, num_classes=CLASSES, **options)
        size = SMALL
    else:
        network = timm.create_model(name, num_classes=CLASSES, **SMALLER.get(name, {}))
        size = network.default_cfg["input_size"][-1]
        size = size if network.default_cfg.get("fixed_input_size") else min(size, SMALL)
    return network if name in WHOLE else shortened(network), SIZES.get(name, size)


def shortened(network):
    """Of more than three equal blocks in a row the first two and the last."""
    for module in network.modules():
        if isinstance(module, torch.nn.Sequential | torch.nn.ModuleList):
            kinds = [(type(m), [p.shape for p in m.parameters()]) for m in module]
            for i in reversed(range(2, len(kinds) - 1)):
                blocks = next(module[i].children(), None) is not None and kinds[i][1]
                if blocks and kinds[i - 2] == kinds[i - 1] == kinds[i] == kinds[i + 1]:
                    del module[i]
    return network


def build(name):
    """The network, with random weights that make every part of it count, and pictures.

    Most units are on: where half of them are off, the gradient hinges on the few within rounding
    of zero, and PyTorch's own float32 and float64 maps differ by percents.
    """
    torch.manual_seed(0)
    network, size = create(name)
    draw = torch.Generator().manual_seed(1)
    norms = []
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim < 2 or parameter.abs().max() < 1e-3:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                norms.append(module)
                if module.affine:
                    module.weight.uniform_(0.2, 0.4, generator=draw)
                    module.bias.uniform_(0.6, 1.0, generator=draw)
        network.eval()
        for norm in norms:  # one pass in training mode makes the statistics those of the data
            norm.momentum = 1.0
            norm.train()
        network(pictures(8, size, draw))
    return without_overwriting(network.eval()), pictures(BATCH, size, draw)


def without_overwriting(network):
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return network


def pictures(count, size, draw):
    """Noise of all scales: what white noise is after pooling hardly differs between pictures."""
    layers = [torch.randn(count, 3, 2**n, 2**n, generator=draw) for n in range(8)]
    return sum(torch.nn.functional.interpolate(x, size=size, mode="bilinear") for x in layers) / 2


def layouts(value):
    """(N,C,P) of each way in which an output may be a map of P positions."""
    if value.ndim == 4:
        return [value.flatten(2), value.flatten(1, 2).transpose(1, 2)]
    return [value[:, n:].transpose(1, 2) for n in TOKENS_BEFORE if value.shape[1] > n]


def projected(activation):
    """A sum of the channels that is not near zero after a normalisation."""
    channels = torch.arange(activation.shape[1], dtype=activation.dtype)
    return torch.einsum("ncp,c->np", activation, torch.cos(channels))


def explained(network, images):
    """Logits; of what modules read and make a sum of the channels to know it by, and its maps."""
    kept = []

    def keep(module, args, value):
        for x in (*args[:1], value[0] if isinstance(value, tuple) else value):
            wanted = isinstance(x, torch.Tensor) and x.ndim in (3, 4) and x.requires_grad
            if wanted and all(x is not other for other in kept):
                kept.append(x)

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    logits = network(images)
    for handle in handles:
        handle.remove()
    slopes = [
        torch.autograd.grad(logits[:, t].sum(), kept, retain_graph=True, allow_unused=True)
        for t in TARGETS
    ]
    found = []
    for value, *gradients in zip(kept, *slopes, strict=True):
        if any(gradient is None for gradient in gradients):
            continue
        for activation, *weights in zip(*map(layouts, (value, *gradients)), strict=True):
            if activation.shape[2] <= POSITIONS:
                maps = [(activation * w.mean(2, keepdim=True)).sum(1) for w in weights]
                found.append((projected(activation), torch.stack(maps, 1)))
    results = {"logits": logits}
    for number, (total, maps) in enumerate(found[-LAYOUTS:]):
        results |= {f"sum:{number}": total, f"maps:{number}": maps}
    return {key: value.detach().numpy() for key, value in results.items()}


def reference(network, images):
    """`explained` in float64, and of each array how far float32 is from it."""
    exact = explained(copy.deepcopy(network).double(), images.double())
    results = {"images": images.numpy(), "targets": np.array(TARGETS, np.int32)}
    for key, rounded in explained(network, images).items():
        results[key] = exact[key].astype(np.float32)
        results[f"float32:{key}"] = np.abs(rounded - exact[key]).max() / np.abs(exact[key]).max()
    return results


def write(name, network, images, exporter, path):
    """The file, its batch left open."""
    names = {"input_names": ["images"], "output_names": ["logits"]}
    if exporter == "script":
        with timm.layers.set_exportable(True):
            plain = without_overwriting(create(name)[0].eval())
        plain.load_state_dict(network.state_dict())
        torch.onnx.export(
            plain, (images,), str(path), dynamo=False, opset_version=20,
            dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}}, **names,
        )  # fmt: skip
    else:
        batch = torch.export.Dim("N", min=1, max=512)
        torch.onnx.export(
            network, (images,), str(path), dynamo=True, dynamic_shapes=({0: batch},),
            verbose=False, **names,
        )  # fmt: skip


def export(name, directory):
    network, images = build(name)
    results, failures = reference(network, images), []
    for exporter in ("script", "dynamo"):
        path = directory / f"{name}.{exporter}.onnx"
        try:
            write(name, network, images, exporter, path)
        except Exception as error:
            path.unlink(missing_ok=True)
            failures.append(f"{exporter}: {type(error).__name__}: {error}\n")
    (directory / f"{name}.txt").write_text("\n".join(failures))
    np.savez(directory / f"{name}.npz", **results)


def main():
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    for name in sys.argv[2:] or NETWORKS.split():
        if not (directory / f"{name}.npz").exists():
            export(name, directory)
            print(name, flush=True)


if __name__ == "__main__":
    main()
