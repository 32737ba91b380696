"""Checkpoints too small to know anything, in the very form that a user has theirs in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLIP_CONFIG = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
_WORDS = ["a dog barks", "quiet piano", "rain on a tin roof, and thunder far away " * 40]


def tiny_open_clip(path: Path) -> Path:
    """Save a small CLIP with random weights as open_clip's `local-dir:` wants it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.CLIP(**CLIP_CONFIG)
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    config = {"model_cfg": CLIP_CONFIG, "preprocess_cfg": {}}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    return path


def tiny_clap(path: Path, fusion: bool = False) -> Path:
    """Save a small CLAP with random weights, its feature extractor and a tokenizer trained here."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.processors import RobertaProcessing
    from tokenizers.trainers import BpeTrainer
    from transformers import (
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        RobertaTokenizerFast,
    )

    torch.manual_seed(0)
    audio: dict[str, Any] = {
        "hidden_size": 64,
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "num_hidden_layers": 4,
        "enable_fusion": fusion,
        "fusion_type": "aff_2d" if fusion else None,
    }
    text = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 600,
        "max_position_embeddings": 66,
    }
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=40)
    ClapModel(config).eval().save_pretrained(path)
    ClapFeatureExtractor(truncation="fusion" if fusion else "rand_trunc").save_pretrained(path)
    raw = Tokenizer(BPE(unk_token="<unk>"))
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    raw.train_from_iterator(
        _WORDS,
        BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            show_progress=False,
            initial_alphabet=ByteLevel.alphabet(),
        ),
    )
    raw.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    RobertaTokenizerFast(tokenizer_object=raw).save_pretrained(path)
    return path
