"""Detectors and other dense models of transformers: settings of tiny ones, and who makes them."""

from typing import Any

DETECTOR, SEMANTIC = "AutoModelForObjectDetection", "AutoModelForSemanticSegmentation"
DEPTH = "AutoModelForDepthEstimation"
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SMALL_STAGES = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1]}
RESNET = {"model_type": "resnet", **SMALL_STAGES, "out_features": STAGES[1:]}
ONE_LEVEL = {**RESNET, "out_features": STAGES[3:]}
SWIN = {
    "model_type": "swin",
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 4, 4],
    "window_size": 4,
    "image_size": 64,
    "patch_size": 2,
    "out_features": STAGES,
}
VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "image_size": 64,
    "patch_size": 8,
}
DETR = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "num_queries": 6,
    "backbone_config": ONE_LEVEL,
}
DEFORMABLE = {**DETR, "backbone_config": RESNET, "encoder_n_points": 2, "decoder_n_points": 2}
RT_DETR = {
    "backbone_config": {**RESNET, "model_type": "rt_detr_resnet"},
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [24, 32, 40],
    "encoder_ffn_dim": 40,
    "encoder_attention_heads": 4,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 40,
    "num_queries": 6,
    "hidden_expansion": 0.5,
}
MASK2FORMER = {
    "backbone_config": SWIN,
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 40,
    "dim_feedforward": 40,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "num_queries": 6,
}
MASKFORMER = {
    "backbone_config": SWIN,
    "fpn_feature_size": 32,
    "mask_feature_size": 32,
    "decoder_config": {"model_type": "detr", **DETR},
}
UPERNET = {
    "backbone_config": {**RESNET, "out_features": STAGES},
    "hidden_size": 32,
    "auxiliary_channels": 16,
    "auxiliary_in_channels": 32,
}
DPT = {
    **VISION,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [8, 12, 16, 20],
    "fusion_hidden_size": 16,
    "is_hybrid": False,
}
DEPTH_ANYTHING = {
    "backbone_config": {
        "model_type": "dinov2",
        **VISION,
        "out_features": STAGES,
        "reshape_hidden_states": False,
    },
    "patch_size": 8,
    "reassemble_hidden_size": 32,
    "neck_hidden_sizes": [8, 12, 16, 20],
    "fusion_hidden_size": 16,
    "head_hidden_size": 8,
}
SUPERPOINT = {
    "encoder_hidden_sizes": [8, 8, 16, 16],
    "decoder_hidden_size": 16,
    "descriptor_decoder_dim": 16,
}
# Name -> settings, and the class that makes the model.
DETECTORS: dict[str, tuple[dict[str, Any], str]] = {
    "detr": (DETR, DETECTOR),
    "conditional_detr": (DETR, DETECTOR),
    "table-transformer": (DETR, DETECTOR),
    "dab-detr": ({**DETR, "hidden_size": 32}, DETECTOR),
    "deformable_detr": (DEFORMABLE, DETECTOR),
    "rt_detr": (RT_DETR, DETECTOR),
    "rt_detr_v2": ({**RT_DETR, "decoder_n_levels": 3}, DETECTOR),
    "yolos": ({**VISION, "image_size": [64, 64], "num_detection_tokens": 5}, DETECTOR),
    "maskformer": (MASKFORMER, "AutoModel"),
    "mask2former": (MASK2FORMER, "AutoModel"),
    "upernet": (UPERNET, SEMANTIC),
    "dpt": (DPT, DEPTH),
    "depth_anything": (DEPTH_ANYTHING, DEPTH),
    "superpoint": (SUPERPOINT, "AutoModelForKeypointDetection"),
}
