"""Models of torchvision, and how to import it where its compiled operators do not load."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

WIDE, SQUARE = (32, 64), (64, 64)
VIDEO = (4, 32, 48)
TORCHVISION: dict[str, tuple[tuple[int, ...], Mapping[str, Any]]] = {
    "alexnet": (WIDE, {}),
    "convnext_tiny": (WIDE, {}),
    "densenet121": (WIDE, {}),
    "efficientnet_v2_s": (WIDE, {}),
    "googlenet": (WIDE, {"init_weights": False, "aux_logits": False}),
    "inception_v3": ((96, 128), {"init_weights": False, "aux_logits": False}),
    "mnasnet0_5": (WIDE, {}),
    "mobilenet_v2": (WIDE, {}),
    "mobilenet_v3_small": (WIDE, {}),
    "regnet_y_400mf": (WIDE, {}),
    "resnet18": (WIDE, {}),
    "resnet50": (WIDE, {}),
    "shufflenet_v2_x0_5": (WIDE, {}),
    "squeezenet1_1": (WIDE, {}),
    "swin_t": (SQUARE, {}),
    "swin_v2_t": (SQUARE, {}),
    "vgg11": (WIDE, {}),
    "vit_b_32": (SQUARE, {"image_size": 64}),
    "deeplabv3_mobilenet_v3_large": (WIDE, {"weights_backbone": None}),
    "lraspp_mobilenet_v3_large": (WIDE, {"weights_backbone": None}),
    "fcn_resnet50": (WIDE, {"weights_backbone": None}),
    "r3d_18": (VIDEO, {}),
    "swin3d_t": (VIDEO, {}),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (WIDE, {"weights_backbone": None}),
    "fcos_resnet50_fpn": (WIDE, {"weights_backbone": None}),
    "retinanet_resnet50_fpn": (WIDE, {"weights_backbone": None}),
    "ssdlite320_mobilenet_v3_large": (WIDE, {"weights_backbone": None}),
    "keypointrcnn_resnet50_fpn": (WIDE, {"weights_backbone": None}),
}
_declared: list[torch.library.Library] = []


def import_torchvision() -> Any:
    """Import torchvision, also where its operators are compiled for another build of torch.

    It then describes operators that do not exist, which fails unless they are declared. Models
    that call them (detectors) do not run.
    """
    with suppress(Exception):
        import torchvision

        return torchvision
    library = torch.library.Library("torchvision", "DEF")
    _declared.append(library)  # what it has declared ends with it
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    return torchvision
