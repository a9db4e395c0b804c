"""EfficiencyMonitor: a callback of Lightning's Trainer."""

import logging
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.studies.neuron_axes.torchvision_models import import_torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_torchvision()  # which both frameworks import
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

import tensorstate_gpu as ts
from tensorstate_gpu.training import EfficiencyMonitor
from tests.support.torch_models import hooks_of
from tests.support.training_loops import batch, network

# Warnings of Lightning are not ours to mend; ours are errors.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error:::tensorstate_gpu"),
]
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    """Uses its network without a call of itself, as many modules do."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.passes = {"train": 0, "eval": 0}  # of inputs, without the sanity check

    def training_step(self, x, number):
        self.passes["train"] += len(x[0])
        return self.net(x[0]).square().mean()

    def validation_step(self, x, number):
        if not self.trainer.sanity_checking:
            self.passes["eval"] += len(x[0])
        self.net(x[0])

    def test_step(self, x, number):
        self.net(x[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Late(Net):
    def __init__(self):
        super().__init__()
        self.net = None

    def configure_model(self):
        if self.net is None:
            self.net = network()


def loader(inputs=48, size=8):
    return DataLoader(TensorDataset(batch(0, inputs)), batch_size=size)


def trainer(folder, *callbacks, **options):
    defaults = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    return pl.Trainer(callbacks=[*callbacks], default_root_dir=folder, **{**defaults, **options})


def test_a_fit_with_validation_and_a_test(tmp_path):
    model, callback = Net(), EfficiencyMonitor("Linear", every_n_steps=2)
    trained = trainer(tmp_path, callback, max_epochs=2)
    trained.fit(model, loader(), loader(16))
    monitor = callback.monitor
    assert monitor.counts("net.0").total == 3 * 8  # of the second epoch
    assert monitor.counts("net.0", "eval").total == 16  # without the sanity check
    assert monitor.global_step == 12
    assert hooks_of(model) == []
    metrics = trained.callback_metrics
    assert metrics["eval/efficiency"] == pytest.approx(monitor.scalars()["eval/efficiency"])
    assert {"train/efficiency", "train/dead_share/net.0", "eval/coverage/net.2"} <= {*metrics}
    trained.test(model, loader(24), verbose=False)
    assert callback.monitor.counts("net.0", "test").total == 24
    assert "test/efficiency" in trained.callback_metrics


def test_accumulated_gradients(tmp_path):
    callback = EfficiencyMonitor("net.0", every_n_steps=2, window=1)
    trainer(tmp_path, callback, accumulate_grad_batches=3).fit(Net(), loader(96))
    assert callback.monitor.global_step == 4
    assert callback.monitor.counts("net.0").total == 3 * 8


def test_layers_that_are_made_later(tmp_path):
    callback = EfficiencyMonitor("Linear")
    trainer(tmp_path, callback).fit(Late(), loader(), loader(16))
    assert callback.monitor.counts("net.0").total == 8


@pytest.mark.parametrize("name", ["train/efficiency", "eval/efficiency/net.0"])
def test_early_stopping(name, tmp_path):
    stopping = EarlyStopping(name, mode="max", patience=1, min_delta=1.0)
    trained = trainer(tmp_path, EfficiencyMonitor("Linear"), stopping, max_epochs=9)
    trained.fit(Net(), loader(), loader(16))
    assert trained.current_epoch == 2
    assert 0 < stopping.best_score < 1


def test_charts(tmp_path):
    logger = CSVLogger(tmp_path)
    callback = EfficiencyMonitor("Linear", every_n_steps=2)
    trainer(tmp_path, callback, logger=logger, log_every_n_steps=2).fit(Net(), loader(), loader(8))
    head, *rows = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    columns = dict(
        zip(head.split(","), zip(*(row.split(",") for row in rows), strict=True), strict=True)
    )
    assert len([*filter(None, columns["train/efficiency"])]) == 3
    assert len([*filter(None, columns["eval/efficiency"])]) == 1


@pytest.mark.parametrize("window", [None, 3])
def test_a_training_that_is_resumed(window, tmp_path):
    def callback():
        return EfficiencyMonitor("net.0", every_n_steps=2, window=window)

    whole, resumed = callback(), callback()
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    # The same batch again and again, because Lightning would begin anew with the first.
    same = DataLoader(TensorDataset(batch(0, 8).repeat(12, 1)), batch_size=8)
    trainer(tmp_path, whole, saving, enable_checkpointing=True, max_steps=9).fit(Net(), same)
    again = trainer(tmp_path, resumed, max_steps=9)
    again.fit(Net(), same, ckpt_path=tmp_path / "step=5.ckpt", weights_only=True)
    assert resumed.monitor.global_step == 9
    assert resumed.monitor.counts("net.0") == whole.monitor.counts("net.0")


def test_two_callbacks_of_one_trainer(tmp_path):
    first, second = EfficiencyMonitor("net.0"), EfficiencyMonitor("net.2", every_n_steps=2)
    trainer(tmp_path, first, second).fit(Net(), loader())
    assert first.monitor.counts("net.0").total == 8
    assert second.monitor.counts("net.2").total == 24


@pytest.mark.long
def test_counts_of_a_process_that_is_spawned(tmp_path):
    callback = EfficiencyMonitor("net.0", every_n_steps=2)
    spawning = trainer(tmp_path, callback, strategy="ddp_spawn", devices=1)
    spawning.fit(Net(), loader(), loader(16))
    assert callback.monitor is None
    here = ts.StateMonitor(model := Net(), "net.0")
    here.load_state_dict(callback.state_dict()["monitor"])
    assert here.counts("net.0").total == 3 * 8
    assert here.counts("net.0", "eval").total == 16
    assert not callback._home.exists()
    trainer(tmp_path, callback).test(model, loader(24), verbose=False)
    assert callback.monitor.counts("net.0").total == 3 * 8
    assert callback.monitor.counts("net.0", "test").total == 24


def test_an_error_in_validation_ends_the_phase(tmp_path):
    class Failing(Net):
        def validation_step(self, x, number):
            raise OSError

    callback = EfficiencyMonitor("Linear")
    with pytest.raises(OSError):  # noqa: PT011
        trainer(tmp_path, callback, num_sanity_val_steps=0).fit(Failing(), loader(), loader())
    assert callback.monitor._sampler._forced == []


def test_a_module_without_such_layers(tmp_path):
    with pytest.raises(ts.errors.NoLayerMatches):
        trainer(tmp_path, EfficiencyMonitor("Conv2d")).fit(Net(), loader())
