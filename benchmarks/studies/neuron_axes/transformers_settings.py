"""Settings that make models of transformers tiny, shared by several."""

from collections.abc import Mapping
from typing import Any

from .inputs import WORDS

Settings = Mapping[str, Any]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
BLOCKS: Settings = {**SIZES, "intermediate_size": 40}
VISION: Settings = {**BLOCKS, "image_size": 32, "patch_size": 8}
VIDEO: Settings = {**VISION, "num_frames": 4, "tubelet_size": [2, 8, 8]}
TEXT: Settings = {
    **BLOCKS,
    "vocab_size": WORDS,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
DECODER: Settings = {**TEXT, "num_key_value_heads": 2, "head_dim": 8}
GPT: Settings = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": WORDS, "n_positions": 64}
T5: Settings = {
    "vocab_size": WORDS,
    "d_model": 32,
    "d_ff": 40,
    "d_kv": 8,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
TRANSLATOR: Settings = {
    "vocab_size": WORDS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
SPEECH: Settings = {
    **BLOCKS,
    "conv_dim": (16, 24, 32),
    "conv_kernel": (8, 4, 4),
    "conv_stride": (4, 4, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": WORDS,
}
EXPERTS: Settings = {"moe_intermediate_size": 24, "num_experts_per_tok": 2}
LATENT: Settings = {
    **TEXT,
    **EXPERTS,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
    "first_k_dense_replace": 1,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "n_shared_experts": 1,
}
FOUR_STAGES: Settings = {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1]}
PYRAMID: Settings = {**FOUR_STAGES, "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 4]}
SWIN: Settings = {"embed_dim": 16, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4}
SMALL_SWIN: Settings = {**SWIN, "image_size": 32, "patch_size": 2}
CLIP_TEXT: Settings = {**TEXT, "eos_token_id": WORDS - 1, "bos_token_id": WORDS - 2}
CLIP: Settings = {"text_config": CLIP_TEXT, "vision_config": VISION, "projection_dim": 24}
