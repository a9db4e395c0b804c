"""Models of transformers, by the names of their configurations, each made tiny."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from .inputs import WORDS, image_for, mono, numbers, sound, translation, word_ids, words
from .passes import Inputs
from .transformers_detectors import DETECTORS
from .transformers_settings import (
    BLOCKS,
    CLIP,
    DECODER,
    EXPERTS,
    FOUR_STAGES,
    GPT,
    LATENT,
    PYRAMID,
    SMALL_SWIN,
    SPEECH,
    T5,
    TEXT,
    TRANSLATOR,
    VIDEO,
    VISION,
    Settings,
)


@dataclasses.dataclass(frozen=True)
class Tiny:
    """Settings of a small model, its input, and the class that makes it."""

    settings: Settings
    inputs: Callable[[], Inputs]
    auto_class: str = "AutoModel"

    def config(self) -> dict[str, Any]:
        return copy.deepcopy(dict(self.settings))  # transformers changes what it is given


def large_image() -> Inputs:
    return image_for(64)


def captioned() -> Inputs:
    """An image, and words that end with the id that CLIP's text model looks for."""
    return image_for(input_ids=word_ids(last=WORDS - 1))


def prompted(places: int) -> Inputs:
    """An image, and words after so many places that the image takes in a language model."""
    image = torch.full((2, places), WORDS - 1)
    return image_for(input_ids=torch.cat([image, word_ids()], 1))


def video() -> Inputs:
    return numbers(4, 3, 32, 32, name="pixel_values")


def _all(names: str, settings: Settings, inputs: Callable[[], Inputs]) -> dict[str, Tiny]:
    return {name: Tiny(settings, inputs) for name in names.split()}


IMAGES = {
    **_all("vit deit dinov2 dinov2_with_registers dinov3_vit beit", VISION, image_for),
    **_all("vit_mae vit_msn ijepa clip_vision_model siglip_vision_model", VISION, image_for),
    **_all("aimv2_vision_model", VISION, image_for),
    **_all("pixtral", {**VISION, "head_dim": 8}, image_for),
    **_all("vitdet", {**VISION, "window_size": 2}, image_for),
    **_all("swin swinv2 maskformer-swin", SMALL_SWIN, image_for),
    **_all("swin2sr", {**SMALL_SWIN, "patch_size": 1, "depths": [1, 1]}, image_for),
    **_all("convnext convnextv2 dinov3_convnext", FOUR_STAGES, large_image),
    **_all("resnet", {**FOUR_STAGES, "embedding_size": 16}, large_image),
    **_all("regnet", {**FOUR_STAGES, "embedding_size": 16, "groups_width": 8}, large_image),
    **_all("mobilenet_v1 mobilenet_v2", {}, large_image),
    **_all("mobilevit mobilevitv2 efficientnet", {"image_size": 64}, large_image),
    **_all("hgnet_v2 textnet", {}, large_image),
    **_all("poolformer segformer glpn", PYRAMID, large_image),
    **_all("pvt pvt_v2", {**PYRAMID, "image_size": 64}, large_image),
    **_all("videomae", {**VISION, "num_frames": 4}, video),
    **_all("timesformer", {**VISION, "num_frames": 4}, video),
    **_all("vivit", VIDEO, video),
    "bit": Tiny(
        {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 8},
        large_image,
    ),
    "cvt": Tiny(
        {"embed_dim": [16, 24, 32], "depth": [1, 2, 3], "num_heads": [1, 2, 4]}, large_image
    ),
    "dinat": Tiny({"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4]}, large_image),
    "focalnet": Tiny({"image_size": 32, "embed_dim": 16, "depths": [1, 1, 1, 1]}, image_for),
    "hiera": Tiny(
        {"embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 2, 4, 8], "image_size": [64, 64]},
        large_image,
    ),
    "levit": Tiny(
        {
            "image_size": 64,
            "hidden_sizes": [32, 48, 64],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
        large_image,
    ),
    "swiftformer": Tiny({"depths": [1] * 4, "embed_dims": [16, 24, 32, 40]}, large_image),
}
TEXTS = {
    **_all("bert roberta albert electra mpnet roformer rembert convbert deberta", TEXT, words),
    **_all("deberta-v2 megatron-bert nystromformer yoso mra ibert layoutlm fnet", TEXT, words),
    **_all("xlm-roberta-xl roberta-prelayernorm modernbert splinter mobilebert", TEXT, words),
    **_all("esm big_bird nomic_bert gpt_neox biogpt mamba falcon", TEXT, words),
    **_all("falcon_mamba", {**TEXT, "time_step_rank": 6}, words),
    **_all(
        "llama mistral gemma gemma2 gemma3_text qwen2 qwen3 phi phi3 olmo olmo2", DECODER, words
    ),
    **_all("starcoder2 stablelm cohere glm glm4 granite persimmon smollm3 helium", DECODER, words),
    **_all("nemotron mixtral olmoe phimoe gpt_oss granitemoe minimax ernie4_5", DECODER, words),
    **_all("exaone4 modernbert-decoder diffllama lfm2 llama4_text jetmoe apertus", DECODER, words),
    **_all("qwen2_moe qwen3_moe", {**DECODER, **EXPERTS, "num_experts": 4}, words),
    **_all("deepseek_v2 deepseek_v3", LATENT, words),
    **_all("gpt2 gpt_bigcode openai-gpt", GPT, words),
    **_all("gptj codegen", {**GPT, "rotary_dim": 4}, words),
    **_all("ctrl", {**GPT, "dff": 40}, words),
    **_all("opt", {**TEXT, "ffn_dim": 40, "word_embed_proj_dim": 32}, words),
    **_all("longformer", {**TEXT, "attention_window": 4}, words),
    **_all("rwkv", {**TEXT, "attention_hidden_size": 32}, words),
    **_all("t5 umt5 longt5", T5, translation),
    **_all("switch_transformers", {**T5, "num_decoder_layers": 2, "num_experts": 3}, translation),
    **_all("bart mbart pegasus marian blenderbot m2m_100 plbart led", TRANSLATOR, translation),
    **_all("bigbird_pegasus pegasus_x", TRANSLATOR, translation),
    "bloom": Tiny({"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": WORDS}, words),
    "canine": Tiny({**TEXT, "local_transformer_stride": 16}, lambda: words(32)),
    "distilbert": Tiny(
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 40, "vocab_size": WORDS}, words
    ),
    "gpt_neo": Tiny(
        {
            **TEXT,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
        },
        words,
    ),
    "jamba": Tiny(
        {**DECODER, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
        words,
    ),
    "mamba2": Tiny({**TEXT, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2}, words),
    "mpt": Tiny({"d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": WORDS}, words),
    "recurrent_gemma": Tiny({**DECODER, "num_hidden_layers": 3, "lru_width": 32}, words),
    "xlm": Tiny({"emb_dim": 32, "n_layers": 2, "n_heads": 4, "n_words": WORDS}, words),
    "xlnet": Tiny(
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40, "vocab_size": WORDS}, words
    ),
}
SOUNDS = {
    **_all("wav2vec2 hubert wavlm unispeech unispeech-sat sew sew-d", SPEECH, sound),
    **_all("data2vec-audio wav2vec2-conformer", SPEECH, sound),
    "audio-spectrogram-transformer": Tiny(
        {**BLOCKS, "patch_size": 4, "max_length": 20, "num_mel_bins": 16, "time_stride": 4},
        lambda: numbers(20, 16, name="input_values"),
    ),
    "dac": Tiny(
        {"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "decoder_hidden_size": 16},
        lambda: mono(400),
    ),
    "encodec": Tiny(
        {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "upsampling_ratios": [4, 2]},
        lambda: mono(400),
    ),
    "speech_to_text": Tiny(
        {**TRANSLATOR, "input_feat_per_channel": 16, "conv_channels": 24},
        lambda: numbers(30, 16, name="input_features", decoder_input_ids=word_ids(5)),
    ),
    "whisper": Tiny(
        {**TRANSLATOR, "num_mel_bins": 16, "max_source_positions": 20},
        lambda: numbers(16, 40, name="input_features", decoder_input_ids=word_ids(5)),
    ),
}
SERIES = {
    "patchtst": Tiny(
        {**BLOCKS, "num_input_channels": 3, "context_length": 32, "patch_length": 8, "d_model": 32},
        lambda: numbers(32, 3, name="past_values"),
    ),
    "patchtsmixer": Tiny(
        {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "d_model": 16},
        lambda: numbers(32, 3, name="past_values"),
    ),
    "perceiver": Tiny(
        {
            "num_latents": 5,
            "d_latents": 24,
            "d_model": 32,
            "num_self_attends_per_block": 2,
            "num_self_attention_heads": 4,
            "num_cross_attention_heads": 4,
        },
        lambda: numbers(7, 32, name="inputs"),
    ),
}
PAIRS = {
    **_all("clip clipseg owlvit", CLIP, captioned),
    **_all("siglip", {"text_config": TEXT, "vision_config": VISION}, captioned),
    **_all("altclip", {**CLIP, "text_config": {**TEXT, "project_dim": 24}}, captioned),
    **_all("git", {**TEXT, "vision_config": VISION}, captioned),
    **_all("vilt", {**VISION, "vocab_size": WORDS}, captioned),
    "blip": Tiny(
        {**CLIP, "text_config": {**TEXT, "encoder_hidden_size": 32, "projection_dim": 24}},
        captioned,
    ),
    "llava": Tiny(
        {
            "text_config": {**DECODER, "model_type": "llama"},
            "vision_config": {**VISION, "model_type": "clip_vision_model"},
            "image_token_index": WORDS - 1,
            "vision_feature_layer": -1,
        },
        lambda: prompted(16),
    ),
    "lxmert": Tiny(
        {
            **BLOCKS,
            "vocab_size": WORDS,
            "l_layers": 1,
            "x_layers": 1,
            "r_layers": 1,
            "visual_feat_dim": 10,
        },
        lambda: words(visual_feats=torch.randn(2, 5, 10), visual_pos=torch.rand(2, 5, 4)),
    ),
    "visual_bert": Tiny(
        {**TEXT, "visual_embedding_dim": 10}, lambda: words(visual_embeds=torch.randn(2, 5, 10))
    ),
}
TRANSFORMERS: dict[str, Tiny] = {
    **IMAGES,
    **{
        name: Tiny(settings, large_image, made_by)
        for name, (settings, made_by) in DETECTORS.items()
    },
    **TEXTS,
    **SOUNDS,
    **SERIES,
    **PAIRS,
}
