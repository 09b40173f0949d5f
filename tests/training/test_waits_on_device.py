"""What a training makes a GPU wait for: nothing of ours in a step, one reading a log line."""

import multiprocessing

import pytest
from support.python_device import python_device
from support.python_device_run import train
from transformers import TrainerCallback

from batchopt.request.compose import compose_run
from batchopt.training import recorder, trainer


class ByStep(TrainerCallback):
    """Keeps what happened between the beginnings of two steps: batches, step, log line."""

    def __init__(self, device):
        self.device = device
        self.steps = []

    def on_step_begin(self, *_, **__):
        self.steps.append((self.device.waits, self.device.kernels))
        self.device.reset()


WORDS = [
    *("training.logging_steps=3", "training.max_steps=7", "training.eval_steps=100"),
    "data.train_examples=512",
]


@pytest.fixture(params=["batch=05a", "batch=05c"])
def steps(request, tmp_path, cache, monkeypatch):
    """What happened in the steps 2 to 6; 3 and 6 have a log line."""
    monkeypatch.setattr(recorder, "SNAPSHOT_S", 1e9)
    with python_device() as device:
        by_step = ByStep(device)
        train(tmp_path / "run", cache, *WORDS, request.param, callbacks=[by_step])
    return dict(zip(range(2, 7), by_step.steps[2:7], strict=True)), request.param


def test_no_step_waits_for_us_and_a_log_line_waits_once(steps):
    by_step, preset = steps
    for number, (waits, _) in by_step.items():
        ours = [wait for wait in waits if " @ transformers." not in wait]
        if number % 3:
            assert ours == [], f"step {number}"
        else:
            (reading,) = ours
            assert reading.startswith("copy to the host @ batchopt.training.recorder:")
        # The model looks three times a micro-batch whether anything is padded, and the Trainer
        # reads loss and norm for its own log line.
        micro_batches = 8 if preset == "batch=05a" else 1
        assert len(waits) - len(ours) <= 3 * micro_batches + (0 if number % 3 else 2)


def test_the_times_of_steps_are_read_off_the_devices_own_clock(tmp_path, cache):
    """An event can be read once the host has waited, so each step was timed without waiting."""
    with python_device():
        done, _ = train(tmp_path / "run", cache, "training.logging_steps=3")
    assert len(done.recorder.steps) == 4
    for step in done.recorder.steps:
        parts = (step.data_wait_s, step.forward_s, step.backward_s, step.optimizer_s)
        assert all(part >= 0 for part in parts)
        assert 0 < sum(parts) <= step.duration_s
    assert done.recorder.train_time_s == pytest.approx(
        sum(step.duration_s for step in done.recorder.steps)
    )


def test_a_device_that_failed_leaves_the_steps_that_were_read(tmp_path, cache, monkeypatch):
    """The record of a failed run tells its failure, and not that of reading the rest."""
    with python_device():
        done, _ = train(tmp_path / "run", cache, "training.logging_steps=3")
        done.recorder._unread = [None]
        monkeypatch.setattr(
            done.recorder, "_read_steps", lambda: (_ for _ in ()).throw(RuntimeError("CUDA error"))
        )
        assert done.recorder.metrics()["optimizer_steps_done"] == 4


def test_the_costliest_micro_batch_runs_first_in_every_step(tmp_path, cache, monkeypatch):
    """So that one that does not fit shows in the first step, and the allocator's blocks suffice."""
    sizes = []
    exact = trainer.micro_batch_loss

    def noted(model, batch, *args, **options):
        sizes.append(batch["input_ids"].numel() + 2 * batch["labels"].numel())
        return exact(model, batch, *args, **options)

    monkeypatch.setattr(trainer, "micro_batch_loss", noted)
    done, _ = train(tmp_path / "run", cache, "batch=05a", "device.kind=cpu")
    counts = [step.micro_batches for step in done.recorder.steps]
    assert counts == [8, 8, 4, 8]
    for count in counts:
        step, sizes = sizes[:count], sizes[count:]
        assert step[0] == max(step)
    assert done.recorder.noise_scale.examples is not None


@pytest.mark.parametrize(
    ("words", "cpu", "gpu"),
    [
        ([], (0, 1), (4, 8)),
        (["training.torch_compile=true"], (0, 64), (4, 64)),
        (["training.dataloader_num_workers=8", "training.pad_to_multiple_of=16"], (8, 16), (8, 16)),
        (["training.dataloader_num_workers=0"], (0, 1), (0, 8)),
    ],
)
def test_a_gpu_has_workers_and_padding_of_its_own(words, cpu, gpu, monkeypatch):
    monkeypatch.setattr(trainer.os, "sched_getaffinity", lambda _: range(16))
    config = compose_run(words).config
    for cuda, expected in ((False, cpu), (True, gpu)):
        monkeypatch.setattr(trainer, "use_cuda", lambda _, cuda=cuda: cuda)
        assert (trainer.loader_workers(config), trainer.pad_multiple(config)) == expected
    monkeypatch.setattr(trainer.os, "sched_getaffinity", lambda _: range(2))
    assert trainer.loader_workers(config) in (cpu[0], 2, 8)


def test_workers_live_as_long_as_the_run(tmp_path, cache, monkeypatch):
    """Starting them anew for each epoch would cost seconds, and so would leaving them to the exit:
    with pinned memory, torch waits there 5 s for each one that was not told to end."""
    loaders = []
    made = trainer.DataLoader

    def noted(*args, **options):
        loaders.append(made(*args, **options))
        return loaders[-1]

    monkeypatch.setattr(trainer, "DataLoader", noted)
    with python_device() as device:
        words = ["training.dataloader_num_workers=2", "training.logging_steps=3"]
        kept = train(tmp_path / "run", cache, *words)
        assert [wait for wait in device.waits if "accelerate." in wait] == []
        assert device.bytes_to_device > 0
        assert kept and multiprocessing.active_children() == []
    assert all(loader.persistent_workers and loader.pin_memory for loader in loaders)


def test_workers_end_with_a_training_that_fails(tmp_path, cache, monkeypatch):
    def fails(*_, **__):
        assert len(multiprocessing.active_children()) == 2
        raise RuntimeError("out of what it needs")

    monkeypatch.setattr(trainer, "micro_batch_loss", fails)
    words = ["training.dataloader_num_workers=2", "device.kind=cpu"]
    # It keeps the trainer, as the process of a run does.
    with pytest.raises(RuntimeError, match="out of what") as failed:
        train(tmp_path / "run", cache, *words)
    assert failed and multiprocessing.active_children() == []


def test_lengths_are_rounded_up_as_far_as_the_model_has_positions(tmp_path, cache):
    """Sources of up to 254 tokens in multiples of 8: 256 would be more than the model knows."""
    words = ["training.pad_to_multiple_of=8", "data.max_source_length=254", "device.kind=cpu"]
    rounded, losses = train(tmp_path / "rounded", cache, *words)
    words[0] = "training.pad_to_multiple_of=1"
    plain, expected = train(tmp_path / "plain", cache, *words)
    assert losses == pytest.approx(expected, rel=1e-5)
    step = rounded.data_collator([rounded.train_rows[index] for index in range(64)])
    for batch in step["micro_batches"]:
        source, target = batch["input_ids"].shape[1], batch["labels"].shape[1]
        assert source % 8 == 0 or source == 254
        assert target % 8 == 0 or target == 12
        assert (batch["attention_mask"].sum(1) > 0).all()
    sizes = [batch["input_ids"].numel() for batch in step["micro_batches"]]
    assert step["padded_source_tokens"] == sum(sizes)
    ours, theirs = rounded.recorder.metrics(), plain.recorder.metrics()
    assert ours["padding_fraction"] > theirs["padding_fraction"]
