"""EfficiencyMonitor: a callback of Lightning's Trainer."""

import pickle
from contextlib import nullcontext

import pytest
from torch.utils.data import DataLoader, TensorDataset

import tensorstate_gpu as ts
from tests.support.torch_models import hooks_of
from tests.support.training_loops import batch, states_of

# Warnings of Lightning are not ours to mend; ours are errors. They are ignored, and not shown: to
# show one, the main process of several would import Lightning.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error:::tensorstate_gpu"),
]


@pytest.fixture
def kit():
    from tests.support import lightning_kit

    return lightning_kit


def test_a_fit_with_validation_and_a_test(kit, tmp_path):
    model, callback = kit.Net(), kit.EfficiencyMonitor("Linear", every_n_steps=2)
    trained = kit.trainer(tmp_path, callback, max_epochs=2)
    trained.fit(model, kit.loader(), kit.loader(16))
    monitor = callback.monitor
    assert monitor.counts("net.0").total == 3 * 8  # of the second epoch
    assert monitor.counts("net.0", "eval").total == 16  # without the sanity check
    assert monitor.global_step == 12
    assert hooks_of(model) == []
    metrics = trained.callback_metrics
    assert metrics["eval/efficiency"] == pytest.approx(monitor.scalars()["eval/efficiency"])
    assert {"train/efficiency", "train/dead_share/net.0", "eval/coverage/net.2"} <= {*metrics}
    trained.test(model, kit.loader(24), verbose=False)
    assert callback.monitor.counts("net.0", "test").total == 24
    assert "test/efficiency" in trained.callback_metrics


def test_a_sanity_check_is_not_captured(kit, tmp_path):
    callback = kit.EfficiencyMonitor("Linear")
    options = {"num_sanity_val_steps": 2, "check_val_every_n_epoch": 2}
    trained = kit.trainer(tmp_path, callback, max_epochs=1, **options)
    trained.fit(kit.Net(), kit.loader(), kit.loader(16))
    assert callback.monitor.counts("net.0").total == 8
    with pytest.raises(ts.errors.NothingCaptured, match="phases so far: train"):
        callback.monitor.counts("net.0", "eval")


def test_accumulated_gradients(kit, tmp_path):
    callback = kit.EfficiencyMonitor("net.0", every_n_steps=2, window=1)
    kit.trainer(tmp_path, callback, accumulate_grad_batches=3).fit(kit.Net(), kit.loader(96))
    assert callback.monitor.global_step == 4
    assert callback.monitor.counts("net.0").total == 3 * 8


def test_layers_that_are_made_later(kit, tmp_path):
    callback = kit.EfficiencyMonitor("Linear")
    kit.trainer(tmp_path, callback).fit(kit.Late(), kit.loader(), kit.loader(16))
    assert callback.monitor.counts("net.0").total == 8


@pytest.mark.parametrize("name", ["train/efficiency", "eval/efficiency/net.0"])
def test_early_stopping(kit, name, tmp_path):
    stopping = kit.EarlyStopping(name, mode="max", patience=1, min_delta=1.0)
    trained = kit.trainer(tmp_path, kit.EfficiencyMonitor("Linear"), stopping, max_epochs=9)
    trained.fit(kit.Net(), kit.loader(), kit.loader(16))
    assert trained.current_epoch == 2
    assert 0 < stopping.best_score < 1


def test_charts(kit, tmp_path):
    logger = kit.CSVLogger(tmp_path)
    callback = kit.EfficiencyMonitor("Linear", every_n_steps=2)
    kit.trainer(tmp_path, callback, logger=logger, log_every_n_steps=2).fit(
        kit.Net(), kit.loader(), kit.loader(8)
    )
    head, *rows = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    columns = dict(
        zip(head.split(","), zip(*(row.split(",") for row in rows), strict=True), strict=True)
    )
    assert len([*filter(None, columns["train/efficiency"])]) == 3
    assert len([*filter(None, columns["eval/efficiency"])]) == 1


@pytest.mark.parametrize("window", [None, 3])
def test_a_training_that_is_resumed(kit, window, tmp_path):
    def callback():
        return kit.EfficiencyMonitor("net.0", every_n_steps=2, window=window)

    whole, resumed = callback(), callback()
    saving = kit.ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    # The same batch again and again, because Lightning would begin anew with the first.
    same = DataLoader(TensorDataset(batch(0, 8).repeat(12, 1)), batch_size=8)
    kit.trainer(tmp_path, whole, saving, enable_checkpointing=True, max_steps=9).fit(
        kit.Net(), same
    )
    again = kit.trainer(tmp_path, resumed, max_steps=9)
    again.fit(kit.Net(), same, ckpt_path=tmp_path / "step=5.ckpt", weights_only=True)
    assert resumed.monitor.global_step == 9
    assert resumed.monitor.counts("net.0") == whole.monitor.counts("net.0")


@pytest.mark.parametrize(
    "when", [{"every_n_train_steps": 6}, {"save_on_train_epoch_end": True}, {}], ids=str
)
def test_counts_begin_anew_after_a_checkpoint_of_the_end_of_an_epoch(kit, when, tmp_path):
    """Lightning resumes in the next epoch then, of which it does not tell that it begins."""
    saving = kit.ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **when)
    for epochs, at in ((1, None), (2, tmp_path / "step=6.ckpt")):
        callback = kit.EfficiencyMonitor("net.0", every_n_steps=2)
        trained = kit.trainer(
            tmp_path, callback, saving, enable_checkpointing=True, max_epochs=epochs
        )
        loaders = kit.loader(), kit.loader(16)
        trained.fit(kit.Net(), *loaders, ckpt_path=at, weights_only=True)
        assert callback.monitor.counts("net.0").total == 3 * 8


def test_a_callback_of_another_training(kit, tmp_path):
    """Its steps count from 0 again, whether it has another model or the same."""
    callback, model = kit.EfficiencyMonitor("net.0", every_n_steps=2), kit.Net()
    for net in (model, model, kit.Net()):
        kit.trainer(tmp_path, callback).fit(net, kit.loader(), kit.loader(16))
        assert callback.monitor.global_step == 6
        assert callback.monitor.counts("net.0").total == 3 * 8
        assert callback.monitor.counts("net.0", "eval").total == 16


def test_predictions_are_not_captured(kit, tmp_path):
    callback, model = kit.EfficiencyMonitor("net.0"), kit.Net()
    trained = kit.trainer(tmp_path, callback)
    trained.fit(model, kit.loader(), kit.loader(16))
    trained.predict(model, kit.loader(24))
    assert callback.monitor.counts("net.0", "eval").total == 16
    assert hooks_of(model) == []


def test_several_loaders_of_validation_are_one(kit, tmp_path):
    callback = kit.EfficiencyMonitor("net.0")
    trained = kit.trainer(tmp_path, callback)
    trained.fit(kit.Several(), kit.loader(), [kit.loader(16), kit.loader(8)])
    assert callback.monitor.counts("net.0", "eval").total == 24


def test_two_callbacks_of_one_trainer(kit, tmp_path):
    first, second = kit.EfficiencyMonitor("net.0"), kit.EfficiencyMonitor("net.2", every_n_steps=2)
    kit.trainer(tmp_path, first, second).fit(kit.Net(), kit.loader())
    assert first.monitor.counts("net.0").total == 8
    assert second.monitor.counts("net.2").total == 24


@pytest.mark.long
def test_counts_of_a_process_that_the_trainer_starts(kit, tmp_path):
    callback = kit.EfficiencyMonitor("net.0", every_n_steps=2)
    # One that is spawned would import torchvision before the kit can repair it.
    starting = kit.trainer(tmp_path, callback, strategy="ddp_fork", devices=1)
    starting.fit(kit.Net(), kit.loader(), kit.loader(16))
    assert callback.monitor is None
    here = ts.StateMonitor(model := kit.Net(), "net.0")
    here.load_state_dict(callback.state_dict()["monitor"])
    assert here.counts("net.0").total == 3 * 8
    assert here.counts("net.0", "eval").total == 16
    assert not callback._home.exists()
    kit.trainer(tmp_path, callback).test(model, kit.loader(24), verbose=False)
    assert callback.monitor.counts("net.0").total == 3 * 8
    assert callback.monitor.counts("net.0", "test").total == 24


@pytest.mark.long
def test_two_ranks(kit, tmp_path):
    """Measures are of all ranks' states, and so are the counts that come home, or are resumed.

    Of 48 inputs each rank has every second. Its six batches are of 4; the steps 0, 2, 4 are taken.
    """
    callback = kit.EfficiencyMonitor("net.0", every_n_steps=2, window=1)
    saving = kit.ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    options = {"strategy": "ddp_fork", "devices": 2, "enable_checkpointing": True}
    model = kit.Net()
    first = kit.trainer(tmp_path, callback, saving, **options)
    first.fit(model, kit.loader(48, 4), kit.loader(16))
    whole = states_of(model.net, batch(0, 16))
    assert first.callback_metrics["eval/efficiency"] == pytest.approx(whole.efficiency())
    here = ts.StateMonitor(model, "net.0")
    here.load_state_dict(callback.state_dict()["monitor"])
    assert here.counts("net.0", "eval") == whole
    assert here.counts("net.0").total == 2 * 4

    for devices in (2, 1):
        resumed = kit.EfficiencyMonitor("net.0", every_n_steps=2, window=2)
        again = kit.trainer(tmp_path, resumed, max_steps=5, **options | {"devices": devices})
        again.fit(
            kit.Net(), kit.loader(48, 4), ckpt_path=tmp_path / "step=5.ckpt", weights_only=True
        )
        here.load_state_dict(resumed.state_dict()["monitor"])
        assert here.counts("net.0").total == 2 * 4  # of one step, as the first window


def test_a_copy_has_the_counts_and_is_at_no_model(kit, tmp_path):
    callback = kit.EfficiencyMonitor("net.0", every_n_steps=2)
    kit.trainer(tmp_path, callback).fit(kit.Net(), kit.loader())
    copied = pickle.loads(pickle.dumps(callback))
    assert copied.monitor is None
    here = ts.StateMonitor(kit.Net(), "net.0")
    here.load_state_dict(copied.state_dict()["monitor"])
    assert here.counts("net.0") == callback.monitor.counts("net.0")


def test_an_error_in_validation_ends_the_phase(kit, tmp_path):
    class Failing(kit.Net):
        def validation_step(self, x, number):
            raise OSError

    callback = kit.EfficiencyMonitor("Linear")
    with pytest.raises(OSError):  # noqa: PT011
        kit.trainer(tmp_path, callback, num_sanity_val_steps=0).fit(
            Failing(), kit.loader(), kit.loader()
        )
    assert callback.monitor._sampler._forced == {}


def test_a_module_without_such_layers(kit, tmp_path):
    with pytest.raises(ts.errors.NoLayerMatches):
        kit.trainer(tmp_path, kit.EfficiencyMonitor("Conv2d")).fit(kit.Net(), kit.loader())


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("error", [RuntimeError("the training"), KeyboardInterrupt()])
def test_the_store_of_a_training_that_fails_does_not_say_that_it_was_closed(
    opened, error, kit, tmp_path
):
    class Failing(kit.Net):
        def training_step(self, x, number):
            loss = super().training_step(x, number)
            if number == 3:
                raise error
            return loss

    model, path = Failing(), tmp_path / "run.zarr"
    with (
        # Lightning turns Ctrl-C into the end of the program.
        pytest.raises((RuntimeError, SystemExit)),
        ts.Store(path, "x") if opened else nullcontext(path) as place,
        ts.capture(model.net, "Linear", storage_path=place),
    ):
        kit.trainer(tmp_path, kit.EfficiencyMonitor("Linear")).fit(model, kit.loader())
    store = ts.Store(path)
    assert store.closed is False
    assert store["0"].instance_count == 4 * 8
    with pytest.raises(ts.errors.UnfinishedStore):
        ts.open_stores(path)
