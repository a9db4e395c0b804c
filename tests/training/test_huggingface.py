"""EfficiencyCallback: a callback of Hugging Face's Trainer."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import tensorstate_gpu as ts
from tests.support.torch_models import hooks_of

# Warnings of transformers are not ours to mend; ours are errors.
pytestmark = [
    pytest.mark.long,  # to import the Trainer and to run it takes seconds
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error:::tensorstate_gpu"),
]


@pytest.fixture
def kit():
    from tests.support import huggingface_kit

    return huggingface_kit


def test_logs_history_and_reporters(kit, tmp_path):
    reporter, callback = kit.Reporter(), kit.EfficiencyCallback("Linear", every_n_steps=2)
    trained = kit.trainer(tmp_path, reporter, first=[callback])
    trained.train()
    monitor = callback.monitor
    assert monitor.global_step == 12
    assert monitor.counts("hidden").total == 3 * 8  # of the second epoch
    assert hooks_of(trained.model) == []
    assert len(kit.entries(trained, "efficiency")) == 6
    assert len(kit.entries(trained, "eval_efficiency")) == 2
    assert kit.entries(trained, "efficiency/hidden")[-1] == monitor.counts("hidden").efficiency()
    for name in ("efficiency", "eval_efficiency", "eval_dead_share/head"):
        assert [logs[name] for logs in reporter.seen if name in logs] == kit.entries(trained, name)
    assert all(
        "efficiency" not in entry for entry in trained.state.log_history if "eval_loss" in entry
    )
    assert monitor.scalars().keys() == {name for name in monitor.scalars() if name[:6] == "train/"}


def test_in_the_list_of_callbacks(kit, tmp_path):
    trained = kit.trainer(tmp_path, kit.EfficiencyCallback("Linear"))
    trained.train()
    assert len(kit.entries(trained, "eval_efficiency/head")) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_model_and_early_stopping_in_any_order(kit, order, tmp_path):
    stopping = kit.EarlyStoppingCallback(1, early_stopping_threshold=1.0)
    callbacks = [kit.EfficiencyCallback("Linear"), stopping][::order]
    trained = kit.trainer(
        tmp_path,
        *callbacks,
        num_train_epochs=6,
        metric_for_best_model="efficiency",
        greater_is_better=True,
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    trained.train()
    assert trained.state.epoch == 2
    assert trained.state.best_metric == max(kit.entries(trained, "eval_efficiency"))


@pytest.mark.parametrize("window", [None, 3])
def test_a_training_that_is_resumed(kit, window, tmp_path):
    def callback():
        return kit.EfficiencyCallback("hidden", every_n_steps=2, window=window)

    options = {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 1}
    whole = callback()
    kit.trainer(tmp_path / "whole", first=[whole], **options).train()
    resumed = callback()
    trained = kit.trainer(tmp_path / "whole", first=[resumed], **options)
    assert Path(tmp_path, "whole/checkpoint-5/efficiency_monitor.pt").exists()
    trained.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-5"))
    assert resumed.monitor.global_step == 6
    assert resumed.monitor.counts("hidden") == whole.monitor.counts("hidden")


def test_epochs_of_data_without_a_length(kit, tmp_path):
    """Of these, the trainer's number of the epoch is a share of all steps."""

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(kit.DATA)

    callback = kit.EfficiencyCallback("hidden", every_n_steps=2)
    for steps, due in ((12, 3 * 8), (15, 2 * 8)):  # an epoch has six
        trained = kit.trainer(tmp_path, first=[callback], train_data=Stream(), max_steps=steps)
        trained.train()
        assert callback.monitor.counts("hidden").total == due


def test_a_training_that_is_resumed_elsewhere_and_on_other_ranks(kit, tmp_path):
    """The callback reads the checkpoint that it is told of, or says that it has no counts."""
    options = {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 1}
    first = kit.EfficiencyCallback("hidden", every_n_steps=2)
    stale = tmp_path / "first/checkpoint-5/efficiency_monitor_1.pt"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of a training with two ranks, which was saved here before")
    kit.trainer(tmp_path / "first", first=[first], **options).train()
    assert not stale.exists()

    checkpoint = str(tmp_path / "first/checkpoint-5")
    file = Path(checkpoint, "efficiency_monitor.pt")
    for rank in (0, 1):
        shutil.copy(file, file.with_name(f"efficiency_monitor_{rank}.pt"))
    file.unlink()
    for told, total in ((checkpoint, 2 * 24), (None, 0)):
        resumed = kit.EfficiencyCallback("hidden", every_n_steps=2)
        trained = kit.trainer(
            tmp_path / "other", first=[resumed], resume_from_checkpoint=told, **options
        )
        said = nullcontext() if told else pytest.warns(UserWarning, match="-5 has no counts, so")
        with said:
            trained.train(resume_from_checkpoint=checkpoint)
        seen = resumed.monitor._sampler.windows.get("train", {})
        assert sum(window.counts().total for window in seen.values()) == total


@pytest.mark.parametrize("there", [range(8), range(4, 8)])  # of all nodes, or of the second
@pytest.mark.parametrize("ranks", [2, 8])
def test_each_rank_goes_on_with_its_share_of_the_files(kit, tmp_path, there, ranks):
    module = kit.huggingface_callback
    Path(tmp_path, "efficiency_monitor_of_mine.pt").touch()
    for number in there:
        Path(tmp_path, f"efficiency_monitor_{number}.pt").touch()
    found = module._files_of(tmp_path)
    shares = [module._share_of(found, rank, ranks) for rank in range(ranks)]
    numbers = [[int(file.stem[-1]) for file in share] for share in shares]
    assert numbers == [[n for n in there if n % ranks == rank] for rank in range(ranks)]
    Path(tmp_path, "efficiency_monitor.pt").touch()  # of one rank
    assert len(module._share_of(module._files_of(tmp_path), 0, ranks)) == len(numbers[0]) + 1


def test_a_trainer_that_trains_twice(kit, tmp_path):
    """Its steps count from 0 again."""
    callback = kit.EfficiencyCallback("hidden", every_n_steps=2)
    trained = kit.trainer(tmp_path, first=[callback], num_train_epochs=1)
    for _ in range(2):
        trained.train()
        assert callback.monitor.global_step == 6
        assert callback.monitor.counts("hidden").total == 3 * 8


def test_accumulated_gradients(kit, tmp_path):
    callback = kit.EfficiencyCallback("hidden", every_n_steps=1, window=1)
    kit.trainer(
        tmp_path, first=[callback], gradient_accumulation_steps=3, num_train_epochs=1
    ).train()
    assert callback.monitor.global_step == 2
    assert callback.monitor.counts("hidden").total == 3 * 8


def efficiency_of(model, x, layer="hidden"):
    """In evaluation mode, by a capture of its own."""
    with ts.capture(model.eval(), layer) as run, torch.no_grad():
        model(**x)
    return run[layer].efficiency()


def evaluated(kit):
    """The data of an evaluation, as the model takes them."""
    x = torch.stack([each["x"] for each in kit.DATA[:16]])
    return {"x": x, "labels": torch.arange(16) % 4}


def test_evaluations_before_and_after_the_training(kit, tmp_path):
    """Each has its own passes, in what it returns, and in the history; then the hooks are gone."""
    reporter, callback = kit.Reporter(), kit.EfficiencyCallback("hidden", every_n_steps=2)
    trained = kit.trainer(
        tmp_path, reporter, first=[callback], num_train_epochs=1, learning_rate=0.1
    )
    x, found = evaluated(kit), []
    for train in (False, True):
        if train:
            trained.train()
            trained.model.eval()(**x)  # of which no evaluation knows
        metrics = trained.evaluate()
        assert hooks_of(trained.model) == []
        assert metrics["eval_efficiency/hidden"] == efficiency_of(trained.model, x)
        assert metrics["eval_ceiling/hidden"] == ts.information.ceiling(16, 12)
        found.append(metrics["eval_efficiency/hidden"])
    assert kit.entries(trained, "eval_efficiency/hidden")[-1] == found[-1]
    seen = [logs["eval_efficiency"] for logs in reporter.seen if "eval_efficiency" in logs]
    assert seen[::2] == found  # the other is that of the epoch
    assert callback.monitor.counts("hidden").total == 3 * 8  # of training, as before
    trained.train()
    assert callback.monitor.global_step == 6


def test_a_prediction_has_measures_of_its_own(kit, tmp_path):
    trained = kit.trainer(tmp_path, first=[kit.EfficiencyCallback("hidden")])
    found = trained.predict(kit.DATA[:16]).metrics
    assert found["test_efficiency/hidden"] == efficiency_of(trained.model, evaluated(kit))
    assert trained.evaluate(kit.DATA[:8])["eval_ceiling/hidden"] == ts.information.ceiling(8, 12)


def test_several_data_sets_and_a_callback_that_is_added_twice(kit, tmp_path):
    callback = kit.EfficiencyCallback("hidden")
    trained = kit.trainer(tmp_path, first=[callback, callback])
    metrics = trained.evaluate({"few": kit.DATA[:8], "more": kit.DATA[:16]})
    for name, inputs in (("few", 8), ("more", 16)):
        found = metrics[f"eval_{name}_ceiling/hidden"]
        assert found == ts.information.ceiling(inputs, 12)
    assert trained.evaluation_loop.loop.__func__ is type(trained).evaluation_loop


def test_an_evaluation_that_fails_leaves_no_hooks(kit, tmp_path):
    trained = kit.trainer(tmp_path, first=[kit.EfficiencyCallback("hidden")])
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trained.evaluate([{"x": torch.ones(5), "labels": 0}])
    assert hooks_of(trained.model) == []


def test_a_callback_in_the_list_says_what_it_cannot_capture(kit, tmp_path):
    trained = kit.trainer(tmp_path, kit.EfficiencyCallback("hidden"))
    with pytest.warns(UserWarning, match=r"needs EfficiencyCallback\(...\).add_to\(trainer\)"):
        assert "eval_efficiency" not in trained.evaluate()


@pytest.mark.parametrize("added", [True, False], ids=["added", "in the list"])
def test_of_training_alone(kit, added, tmp_path, recwarn):
    """No evaluation is captured, and none is missed."""
    callback = kit.EfficiencyCallback("hidden", every_n_steps=2, phases=("train",))
    where = {"first": [callback]} if added else {}
    trained = kit.trainer(tmp_path, *([] if added else [callback]), **where)
    assert "eval_efficiency" not in trained.evaluate()
    trained.train()
    assert "test_efficiency" not in trained.predict(kit.DATA[:16]).metrics
    assert len(kit.entries(trained, "efficiency")) == 6
    assert kit.entries(trained, "eval_efficiency") == []
    assert [each for each in recwarn if "EfficiencyCallback" in str(each.message)] == []


def test_an_evaluation_of_another_model_than_the_one_that_is_trained(kit, tmp_path):
    """Such as one with averaged weights, which a trainer puts in its place to evaluate it."""
    callback, other = kit.EfficiencyCallback("hidden", every_n_steps=2), kit.Net()
    with torch.no_grad():
        other.hidden.bias.add_(1)
    trained = kit.trainer(tmp_path, first=[callback])
    own, evaluate = trained.model, trained.evaluate

    def evaluate_other(*args, **keywords):
        trained.model = other
        try:
            return evaluate(*args, **keywords)
        finally:
            trained.model = own

    trained.evaluate = evaluate_other
    trained.train()
    expected = efficiency_of(other, evaluated(kit))
    assert kit.entries(trained, "eval_efficiency/hidden") == [expected] * 2
    assert len(kit.entries(trained, "efficiency")) == 6
    assert callback.monitor.global_step == 12
    assert callback.monitor.counts("hidden").total == 3 * 8  # of the second epoch
    assert hooks_of(own) == hooks_of(other) == []


@pytest.mark.parametrize("added", [True, False], ids=["added", "in the list"])
def test_rows_that_training_loses_are_told(kit, added, tmp_path):
    """The evaluation at the end of the epoch, whose batches fit, does not hide them."""
    callback = kit.EfficiencyCallback("hidden", every_n_steps=1, stage_rows=8)
    where = {"first": [callback]} if added else {}
    options = {"per_device_train_batch_size": 12, "logging_steps": 100}
    trained = kit.trainer(tmp_path, *([] if added else [callback]), **where, **options)
    with pytest.raises(ts.errors.RowsLost, match="hidden_post_states"):
        trained.train()


def test_a_language_model(kit, tmp_path):
    model, data = kit.small_bert()
    callback = kit.EfficiencyCallback("*intermediate.dense", every_n_steps=1)
    trained = kit.trainer(tmp_path, first=[callback], model=model, data=data, num_train_epochs=1)
    trained.train()
    name = "bert.encoder.layer.0.intermediate.dense"
    x = {"input_ids": torch.stack([each["input_ids"] for each in data[:16]])}
    assert trained.evaluate()[f"eval_efficiency/{name}"] == efficiency_of(trained.model, x, name)
    assert callback.monitor.counts(name).total == 24 * 6
