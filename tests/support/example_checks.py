"""What single examples promise, by their names: functions of what one prints, and of its folder."""

import re
from xml.etree import ElementTree


def numbers(text):
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def keras_lenet5(printed, folder):
    assert "288,000 states" in printed  # 500 images of 24 x 24 positions
    assert "aIQ" in printed


pytorch_lenet5 = keras_lenet5


def transfer_learning(printed, folder):
    accuracies, efficiencies = (
        [float(share) for share in re.findall(rf"{name} +(\S+) %", printed)]
        for name in ("accuracy", "network efficiency")
    )
    assert min(accuracies) > 80
    frozen, fine_tuned, scratch = efficiencies
    assert min(frozen, fine_tuned) > scratch + 5


def output_distributions(printed, folder):
    bits = [float(number) for number in re.findall(r"([\d.]+) bits", printed)]
    right, wrong, cost, *divergences = bits
    assert right < wrong / 3
    assert right < cost < 0.5  # the cost of a label is that of being undecided, and more
    assert divergences[::2] == sorted(divergences[::2])  # with the noise
    assert divergences[1::2] == sorted(divergences[1::2])
    assert divergences[-1] < 1
    assert "of unlimited images (good)" in printed


def class_overlap(printed, folder):
    """A network that has learned nothing tells digits apart, too, but less."""
    before, after = map(numbers, printed.splitlines()[-2:])
    (accuracy_before, told_before, of, beyond_before), (accuracy, told, _, beyond) = before, after
    assert accuracy_before < 30 < 85 < accuracy
    assert told_before <= told <= of == 45
    assert beyond > 1.5 * beyond_before


def efficiency_study(printed, folder):
    rows = [line.split() for line in printed.splitlines()[2:]]
    assert [row[:3] for row in rows[:2]] == [["1/4", "yes", "0%"], ["1/4", "yes", "75%"]]
    accuracies = [float(row[5]) for row in rows]
    assert accuracies[0] > accuracies[1]  # with 75 % random labels
    drawn = ElementTree.parse(folder / "efficiency_study.svg").getroot()
    assert len([shape for shape in drawn.iter() if shape.tag.endswith("circle")]) == 4 + 3 + 3


def pruning(printed, folder):
    before, after = map(numbers, printed.splitlines())
    neurons, entropy, efficiency, accuracy = before
    assert after[0] < neurons / 2
    assert (after[1], after[3]) == (entropy, accuracy)
    assert after[2] > 2 * efficiency


def monitored_training(printed, folder):
    assert list((folder / "runs").glob("events*"))


def tensorboard_images(printed, folder):
    (events,) = (folder / "runs").glob("events*")
    written = events.read_bytes()
    assert b"\x89PNG" in written
    assert b"firing_rates/3" in written


def tensorflow_training_loop(printed, folder):
    assert list((folder / "logs").glob("events*"))


def lightning_training(printed, folder):
    assert "stopped after" in printed
    assert list(folder.glob("lightning_logs/*/metrics.csv"))


def huggingface_training(printed, folder):
    assert "best efficiency" in printed


def keras_callback(printed, folder):
    assert "val_efficiency/hidden" in (folder / "training.csv").read_text()


def keras_metric_layer(printed, folder):
    heading, *rows = printed.splitlines()
    assert heading.split() == ["epoch", "accuracy", "firing_rate", "efficiency"]
    epochs = [numbers(row) for row in rows]
    assert len(epochs) == 8
    assert epochs[-1][1] > 80
    for _, _, rate, efficiency in epochs:
        assert 0 < rate < 100
        assert 0 < efficiency < 100 * 10.4 / 24  # log2 of 1,297 images: states of one epoch only


def checkpoint_and_resume(printed, folder):
    assert "goes on at step 20; the store forgets 832 inputs" in printed  # 13 steps of 64
    assert "goes on at step 80; the store forgets 960 inputs" in printed
    assert printed.count("the store has 7,680 inputs") == 2
    assert "never interrupted: True" in printed


def shared_layers(printed, folder):
    assert "encoder.3:2_post_states" in printed
    same, different = (float(bits) for bits in re.findall(r"differ in ([\d.]+) of", printed))
    assert same < different / 2


def padded_transformer(printed, folder):
    states = [int(row.split()[4].replace(",", "")) for row in rows_of(printed)]
    (share,) = re.findall(r"^(\d+)% of the positions are letters", printed)
    trained, evaluated, padded = states[:2], states[2:4], states[4:]
    assert trained == evaluated
    assert padded == [600 * 20] * 2
    assert abs(trained[0] / padded[0] - int(share) / 100) < 0.01
    assert all(float(share) > 90 for share in re.findall(r"accuracy +(\S+) %", printed))


def rows_of(printed):
    """The rows of all tables of layers in a text."""
    return [line for line in printed.splitlines() if "_states " in line]


def dqn(printed, folder):
    blocks = [line.split() for line in printed.splitlines()[1:]]
    assert len(blocks) == 8
    caught, entropy = float(blocks[-1][3].strip("%")), [float(block[5]) for block in blocks]
    assert caught > 85
    assert entropy[-1] < entropy[0] - 1  # it keeps to what it has learned


def weight_initialisation(printed, folder):
    found = {}
    for line in printed.splitlines()[3:]:
        name, layer, *shares = line.split()
        found[name, int(layer)] = [float(share.strip("%")) for share in shares]
    efficiency, saturated, spread = (
        {name: found[name, 8][place] for name in ("naive", "Xavier", "He")} for place in range(3)
    )
    assert max(efficiency.values()) - min(efficiency.values()) < 0.2
    assert saturated["naive"] > 50 > 10 > saturated["He"] > saturated["Xavier"]
    assert 2 * spread["naive"] < spread["He"] < spread["Xavier"]


def colab_cifar10(printed, folder):
    assert "1,297 images to learn from: digits in the shape of CIFAR-10" in printed
    assert len(rows_of(printed)) == 4
    assert float(re.search(r"accuracy +(\S+) %", printed)[1]) > 85


def outputs_and_errors(printed, folder):
    table, confusion = printed.split("confusion matrix")
    rows = [numbers(row) for row in confusion.splitlines()[1:]]
    right = sum(rows[digit][digit] for digit in range(10))
    assert sum(map(sum, rows)) == 500
    assert float(re.search(r"accuracy +(\S+) %", table)[1]) == right / 5
