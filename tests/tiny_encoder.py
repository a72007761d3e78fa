"""A tiny Whisper encoder with random weights, in Hugging Face's layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

WIDTH, HEADS, INNER, MELS_OF_TINY, POSITIONS, LAYERS = 16, 2, 24, 20, 30, 2


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {
        "conv1.weight": (WIDTH, MELS_OF_TINY, 3),
        "conv1.bias": (WIDTH,),
        "conv2.weight": (WIDTH, WIDTH, 3),
        "conv2.bias": (WIDTH,),
        "embed_positions.weight": (POSITIONS, WIDTH),
    }
    for layer in range(LAYERS):
        for part in "qkv":
            shapes[f"layers.{layer}.self_attn.{part}_proj.weight"] = (WIDTH, WIDTH)
        for name, shape in {
            "self_attn.q_proj.bias": (WIDTH,),
            "self_attn.v_proj.bias": (WIDTH,),
            "self_attn.out_proj.weight": (WIDTH, WIDTH),
            "self_attn.out_proj.bias": (WIDTH,),
            "self_attn_layer_norm.weight": (WIDTH,),
            "self_attn_layer_norm.bias": (WIDTH,),
            "final_layer_norm.weight": (WIDTH,),
            "final_layer_norm.bias": (WIDTH,),
            "fc1.weight": (INNER, WIDTH),
            "fc1.bias": (INNER,),
            "fc2.weight": (WIDTH, INNER),
            "fc2.bias": (WIDTH,),
        }.items():
            shapes[f"layers.{layer}.{name}"] = shape
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def save_huggingface(folder: Path, weights: dict[str, np.ndarray], prefix: str = "model.encoder.") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", "encoder_attention_heads": HEADS}))
    from safetensors.numpy import save_file

    save_file({prefix + name: value for name, value in weights.items()}, folder / "model.safetensors")
    return folder
