"""Values of Xplique 2.0.2 that test_pass_metrics.py compares ours with.

Run by a Python that has xplique and TensorFlow; the test makes the same inputs.
"""

import numpy as np

SIZE, CLASSES = (16, 12), 4


def inputs():
    """(3,H,W,3) pictures, (3,H,W) positive maps without equal values, weights, (3,) classes."""
    rng = np.random.RandomState(0)
    pictures = rng.standard_normal((3, *SIZE, 3)).astype(np.float32)
    maps = rng.uniform(0.1, 1, (3, *SIZE)).astype(np.float32) ** 3
    weights = (0.1 * rng.standard_normal((pictures[0].size, CLASSES))).astype(np.float32)
    order = (pictures.reshape(3, -1) @ weights).argsort(axis=1)
    return pictures, maps, weights, order[[0, 1, 2], [-1, -1, -2]]


def main():
    import tensorflow as tf
    from xplique import metrics

    pictures, maps, weights, classes = inputs()
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((*SIZE, 3)),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(CLASSES, use_bias=False, activation="softmax"),
        ]
    )
    model.set_weights([weights])
    targets = np.eye(CLASSES, dtype=np.float32)[classes]
    names = {
        "insertion:xplique": "Insertion",
        "deletion:xplique": "Deletion",
        "average_drop:xplique": "AverageDropMetric",
        "average_increase:xplique": "AverageIncreaseMetric",
        "average_gain:xplique": "AverageGainMetric",
    }
    for name, metric in names.items():
        measure = getattr(metrics, metric)
        found = [
            measure(model, pictures[i : i + 1], targets[i : i + 1])(maps[i : i + 1])
            for i in range(len(pictures))
        ]
        print(f'    "{name}": {[round(float(value), 7) for value in found]},')


if __name__ == "__main__":
    main()
