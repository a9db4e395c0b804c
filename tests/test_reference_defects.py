"""Defects of TensorState 0.4 that users of it met: each is one test here, named after the defect."""

import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from test_threads_and_memory import guarded
from torch import nn
from torch_models import expected_rows, hooks_of, images

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu.memory_rows import CHUNK_BYTES
