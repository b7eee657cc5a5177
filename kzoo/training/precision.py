"""The precision that the layers compute in."""

from pathlib import Path

import keras
import tensorflow as tf

from kzoo.checks import check_choice

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
PROCESSOR = Path("/proc/cpuinfo")  # Linux's; elsewhere nothing is known, and float32 is never wrong


def set_precision(precision: str = "auto") -> str:
    """Sets the precision of the layers that are made from now on.

    Losses and boxes stay in float32 whatever it is.

    Args:
        precision: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`, or `"auto"`: bfloat16 where the
            processor or every GPU has instructions for it, and float32 elsewhere.

    Returns:
        The precision that was set.

    Raises:
        ValueError: another precision.
    """
    check_choice("precision", precision, PRECISIONS)
    if precision == "auto":
        precision = "mixed_bfloat16" if _has_bfloat16() else "float32"
    keras.config.set_dtype_policy(precision)
    return precision


def _has_bfloat16() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    flags = PROCESSOR.read_text() if PROCESSOR.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
