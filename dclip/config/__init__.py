"""Every option of dclip: one dataclass an option, one file a group. Imports nothing heavy.

A dataclass refuses bad values in ``__post_init__``; what needs several options at once is refused by
:mod:`dclip.prepare.checks` before any network is built.
"""

from dclip.config.dataset import Dataset
from dclip.config.edit import Edit, Mix, adapters_of
from dclip.config.guidance import (
    ClipRange,
    Guidance,
    Guided,
    Normalise,
    Sees,
)
from dclip.config.loss import ClipForm, Loss, ShiftLoss
from dclip.config.method import Lora, MethodOption
from dclip.config.metric import Features, Metrics, NoMetrics, ParserName
from dclip.config.networks import Checkpoint, Clip, DomainName
from dclip.config.options import OPTIONS, STORE, TEMPLATES, T, option, option_name
from dclip.config.root import Config, plain, planned
from dclip.config.run import (
    CpuTrainer,
    GpuTrainer,
    Logger,
    Precision,
    Speed,
    Trainer,
    WandbLogger,
    WandbMode,
)
from dclip.config.sampler import Carry, Encode, FinalStep, Grid, SamplerOption
from dclip.config.task import (
    DemoTask,
    EditTask,
    FinetuneTask,
    Net,
    PlanTask,
    PretrainTask,
    ReconstructTask,
    SampleTask,
    Size,
    Start,
    Task,
    TranslateTask,
)

__all__ = [
    "OPTIONS",
    "STORE",
    "TEMPLATES",
    "Carry",
    "Checkpoint",
    "Clip",
    "ClipForm",
    "ClipRange",
    "Config",
    "CpuTrainer",
    "Dataset",
    "DemoTask",
    "DomainName",
    "Edit",
    "EditTask",
    "Encode",
    "Features",
    "FinalStep",
    "FinetuneTask",
    "GpuTrainer",
    "Grid",
    "Guidance",
    "Guided",
    "Logger",
    "Lora",
    "Loss",
    "MethodOption",
    "Metrics",
    "Mix",
    "Net",
    "NoMetrics",
    "Normalise",
    "ParserName",
    "PlanTask",
    "Precision",
    "PretrainTask",
    "ReconstructTask",
    "SampleTask",
    "SamplerOption",
    "Sees",
    "ShiftLoss",
    "Size",
    "Speed",
    "Start",
    "T",
    "Task",
    "Trainer",
    "TranslateTask",
    "WandbLogger",
    "WandbMode",
    "adapters_of",
    "option",
    "option_name",
    "plain",
    "planned",
]
