"""What a newcomer gets wrong, and what is then printed: one line with the remedy, and exit 2.

Each row is a command line as somebody would type it, and what its one line must contain. Lists of
everything that exists are left out here: they change, and are tested where they come from.
"""

import importlib
import shlex
import subprocess
import sys

import pytest
from support.processes import run_to_end

from batchopt.cli import answer

COLUMNS = "data=files data.train_file=columns.csv"
LONG = "a" * 5000

MISTAKES = [
    # How to write it at all
    ("train 05b", "'05b' is no key=value; did you mean batch=05b?"),
    ("train batch 05b", "'batch' is no key=value; no spaces around '='"),
    ("train batch = 05b", "'batch' is no key=value; no spaces around '='"),
    ("train batch= 05b", "'05b' is no key=value; did you mean batch=05b?"),
    ("train -m batch=05a, 05b", "No spaces around '=' or after a comma, as in batch=05a,05b"),
    ("train batch:05b", "'batch:05b' is no key=value; no spaces"),
    ("train --batch=05b", "--batch=05b: no such flag; as a key: batch=05b"),
    ("train -seed=2", "-seed=2: no such flag; as a key: seed=2"),
    ("train --batch 05b", "--batch: no such flag; as a key: batch=05b"),
    ("train --btach 05b", "unrecognized arguments: --btach; --help shows what there is"),
    ("train --gradient_checkpointing true", "as a key: training.gradient_checkpointing=true"),
    ("train --config a.yaml", "a.yaml: batchopt takes words, not a file of settings; type them"),
    ("train --multi-run batch=05a", "unrecognized arguments: --multi-run"),
    ("train =05b", "=05b"),
    ("train --config-name=mine", "--config-name=mine: there is one config; groups and keys say"),
    ("train data.train_file=my file.csv data=files", "'file.csv' is no key=value; no spaces"),
    ("train data=files data.train_file=a=b.csv", "data.train_file: a=b.csv: there is no such file"),
    ("train 데이터=1", "'데이터' is no key; write key=value, as in data.train_file=…"),
    ("train 'model.extra_tokens=[a,,b]'", "something stands between the commas of a list, as in"),
    ("train cache_dir=", "cache_dir is ; it must be not empty"),
    ("train seed=1,", "write one value that has commas as 'seed=\"1,\"'"),
    ("train data=files data.train_file=내 큰 파일.csv", ": 'data.train_file=내 큰 파일.csv'"),
    ("train model.extra_tokens=[#A#, #B#]", ": 'model.extra_tokens=[#A#, #B#]'"),
    ("verify data=files data.train_file=my file.csv", ": 'data.train_file=my file.csv'"),
    ("train data=files data.train_file=x.csv,학습.csv", "'data.train_file=\"x.csv,학습.csv\"'"),
    ("train data=files 'data.dialogue_column=a, b'", "commas as 'data.dialogue_column=\"a, b\"'"),
    (f"train {COLUMNS} data.summary_columns=요약", "as in 'data.summary_columns=[요약]'"),
    ("train data=files 'data.train_file=학습 (1).csv'", "학습 (1).csv: there is no such file"),
    ("train 'seed=choice()'", "cannot read 'seed=choice()': ValueError while evaluating"),
    # Several values, and -m
    ("train batch=05a,05b,05c", "batch=05a,05b,05c names several values; add -m to run them"),
    ("train -m batch=[05a,05b]", "batch must be one choice, as in batch=05a, or with -m several"),
    ("train batch=divisors", "1,2,4,8,16,32,64 names several values; add -m to run them"),
    ("train -m batch=05a,divisors", "batch=divisors stands alone, without other batches"),
    ("train -m 'seed=interval(1,3)'", "an interval has no end of values; name some, as in seed="),
    ("train hydra/launcher=slurm", "hydra/launcher=slurm runs the jobs of a sweep; add -m"),
    ("train -m hydra/launcher=slrum", "did you mean hydra/launcher=slurm? choices: "),
    ("train launcher=slurm", "launcher: no such key; did you mean hydra/launcher?"),
    # Sweeps of nothing, and the same run twice
    ("train -m 'batch=glob(06*)'", "batch=glob(06*) names no value; the choices are: 05a, 05b,"),
    ("train -m 'seed=range(1,1)'", "seed=range(1,1) names no value; name some, as in seed=1,2,3"),
    ("train -m batch=05a,05b 'seed=range(1,4,-1)'", "seed=range(1,4,-1) names no value"),
    ("train -m 'seed=range(1,4,0)'", "seed=range(1,4,0) names no values (range() arg 3 must"),
    ("train -m 'seed=glob(*)'", "seed=glob(*) names no value; name some"),
    ("train -m 'data=glob(s*,exclude=sample)'", "names no value; the choices are: files, hub,"),
    ("train -m seed=1,1", "0_seed=1 and 1_seed=1 are the same run twice (seed=1); name each"),
    ("train -m training.learning_rate=1e-3,0.001", "are the same run twice (training.learning_r"),
    ("train -m batch=05a,05b,05a", "0_batch=05a and 2_batch=05a are the same run twice"),
    ("train -m seed=1,2 hydra.sweep.subdir=x", "hydra.sweep.subdir is x for several runs"),
    # Hydra's own section
    ("train 'hydra.run.dir=${oc.env:NOPE}/x'", "hydra.run.dir needs the environment variable NOPE"),
    ("train -m seed=1,2 'hydra.sweep.dir=${oc.env:NOPE}'", "hydra.sweep.dir needs the environment"),
    ("train 'hydra.job.name=${oc.env:NOPE}'", "hydra.job.name needs the environment variable NOPE"),
    (
        "train -m seed=1,2 hydra/launcher=slurm 'hydra.launcher.account=${oc.env:NOPE}'",
        "hydra.launcher.account needs the environment variable NOPE, which is not set; set it, or "
        "name a default: ${oc.env:NOPE,DEFAULT}",
    ),
    ("train 'cache_dir=${oc.env:NOPE}/x'", "cache_dir needs the environment variable NOPE, which"),
    ("verify 'hydra.run.dir=${oc.env:NOPE}'", "hydra.run.dir needs the environment variable NOPE"),
    ("train 'hydra.run.dir=${nowhere}/x'", "hydra.run.dir: Interpolation key 'nowhere' not found"),
    ("train 'hydra.searchpath=[file:///nowhere]'", "hydra.searchpath: /nowhere is not there; name"),
    ("train hydra.job.chdir=true", "hydra.job.chdir is true; leave it out: relative paths count"),
    ("train -m seed=1,2 hydra.job.chdir=True", "hydra.job.chdir is true; leave it out"),
    ("train hydra.output_subdir=null", "hydra.output_subdir is null; leave it out: a run reads"),
    ("train hydra.run.dir=", "hydra.run.dir is empty; it must name a folder"),
    ("train -m seed=1,2 hydra.sweeper.max_batch_size=0", "max_batch_size is 0; it must be 1 or mo"),
    # Where nothing can be written
    ("train cache_dir=empty.csv", "cache_dir is empty.csv, and "),
    ("train cache_dir=empty.csv/cache", "empty.csv is not a folder; name another place"),
    ("verify cache_dir=empty.csv", "cache_dir is empty.csv, and "),
    ("probe cache_dir=empty.csv/x", "cache_dir is empty.csv/x, and "),
    ("train cache_dir=/proc/batchopt", "/proc cannot be written to (No such file or directory)"),
    ("train hydra.run.dir=empty.csv/run", "hydra.run.dir is empty.csv/run, and "),
    ("train -m seed=1,2 hydra.sweep.dir=/proc/x", "hydra.sweep.dir is /proc/x, and /proc cannot"),
    # Choices
    ("train batch=05d", "batch=05d: no such choice; did you mean batch=05c? choices: 05a, 05b"),
    ("train batch=5b", "batch=5b: no such choice; did you mean batch=05b? choices: 05a, 05b"),
    ("train batch=05B", "batch=05B: no such choice; did you mean batch=05b?"),
    ("train batch=null", "batch must be one choice, as in batch=05a"),
    ("train ~batch", "batch must be one choice, as in batch=05a"),
    ("train batch=best", "batch=best: no such choice; make adopt writes it from a sweep's results"),
    ("train data=train.csv", "a file of your own is data=files data.train_file=train.csv; choices"),
    ("train data=cnn_dailymail", "a data set of the hub is data=hub data.name=cnn_dailymail"),
    ("train model=bert", "model=bert: no such choice; did you mean model=bart?"),
    (
        "train model=facebook/bart-large",
        "model=facebook/bart-large: no such choice; any other is model=pretrained "
        "model.name_or_path=facebook/bart-large; choices: bart,",
    ),
    ("train device=gpu", "device=gpu: no such choice; did you mean device=cuda? choices: auto,"),
    ("train metric=bleu", "metric=bleu: no such choice; choices: rouge"),
    ("train tracker=wandbb", "tracker=wandbb: no such choice; did you mean tracker=wandb?"),
    ("train foo/bar=1", "foo/bar: no such group; the groups are: batch, data, model,"),
    # Keys
    ("train modle=tiny", "modle: no such key; did you mean model? the keys are: adapter, batch, "),
    ("train sed=3", "sed: no such key; did you mean seed?"),
    ("train +sed=3", "sed: no such key; did you mean seed?"),
    ("train per_device_train_batch_size=8", "did you mean batch.per_device_train_batch_size?"),
    ("train training.per_device_train_batch_size=8", "mean batch.per_device_train_batch_size?"),
    ("train training.num_beams=4", "did you mean metric.num_beams? training has: "),
    ("train auto_find_batch_size=true", "use batch=auto, or on_oom=halve"),
    ("train output_dir=x", "output_dir: use hydra.run.dir=FOLDER"),
    ("train max_source_length=9", "did you mean data.max_source_length? the keys are"),
    ("train training.seed=4", "did you mean seed? training has: "),
    ("train gradient_checkpointing=true", "did you mean training.gradient_checkpointing?"),
    ("train +dataloader_num_workers=8", "did you mean training.dataloader_num_workers?"),
    ("train batch_size=8", "did you mean batch.per_device_train_batch_size?"),
    ("train learning_rate=1e-4", "learning_rate: no such key; did you mean training.learning_rate"),
    ("train lr=1e-4", "lr: no such key; did you mean training.learning_rate?"),
    ("train training.lr=1e-4", "training.lr: no such key; did you mean training.learning_rate?"),
    ("train training.epochs=3", "did you mean training.num_train_epochs? training has: "),
    ("train training.fp16=true", "did you mean training.precision? training has: "),
    ("train data.train_file=a.csv", "did you mean data=files data.train_file? data has: "),
    ("train model.name_or_path=x", "did you mean model=pretrained model.name_or_path? model has"),
    ("train +batch.foo=1", "batch.foo: no such key; batch has: auto, effective_batch_size"),
    ("train ~seed", "seed cannot be removed; set it instead"),
    ("train hydra.foo=1", "hydra.foo: no such key; hydra has: callbacks, "),
    # Values
    ("train seed=one", "seed is one; it must be a whole number"),
    ("train seed=-1", "seed is -1; it must be 0 or more"),
    ("train seed=null", "seed is null; it must have a value"),
    ("train training.learning_rate=fast", "training.learning_rate is fast; it must be a number"),
    ("train training.learning_rate=0", "training.learning_rate is 0.0; it must be greater than 0"),
    ("train training.num_train_epochs=1.5", "is 1.5; it must be a whole number"),
    ("train training.gradient_checkpointing=maybe", "is maybe; it must be true or false"),
    ("train training.precision=half", "is half; it must be one of auto, fp32, bf16, fp16"),
    ("train training.label_smoothing=1", "is 1.0; it must be from 0 up to, not including, 1"),
    ("train training.lr_scheduler_type=step", "is step; it must be one of linear, cosine,"),
    ("train batch.packing=zip", "is zip; it must be one of none, sorted, balanced, packed"),
    ("train metric.tokenizer=mecab", "metric.tokenizer is mecab; it must be one of auto, kiwi,"),
    ("train model.d_model=30", "model.d_model is 30; it must be a multiple of model.attention_he"),
    ("train on_oom=half", "on_oom is half; it must be one of record, halve, checkpoint_then_halve"),
    ("train run.timeout_min=10min", "run.timeout_min is 10min; it must be a number"),
    ("train 'sweep.retry=[faild]'", "sweep.retry is faild; it must be a list of stale,"),
    (f"train {COLUMNS} data.summary_columns=b", "must be a list, as in 'data.summary_columns=[b]'"),
    ("train objective=rouge", "objective is rouge; did you mean rouge"),
    # The words of transformers
    ("train training.arguments.adam_bet2=0.9", "did you mean training.arguments.adam_beta2?"),
    ("train training.adam_beta2=0.9", "no such key; did you mean training.arguments.adam_beta2?"),
    ("train training.warmup_ratio=0.1", "no such key; did you mean training.warmup_steps?"),
    ("train training.arguments.adam_beta2=low", "adam_beta2 is low; it must be a number"),
    ("train training.arguments.adam_beta2=1", "adam_beta2 is 1.0; it must be from 0 up to, not in"),
    ("train training.arguments.tf32=maybe", "tf32 is maybe; it must be true or false"),
    (
        "train -m training.arguments.adam_beta2=0.9,2",
        "adam_beta2 is 2.0; it must be from 0 up to",
    ),
    ("train training.arguments.bf16=true", "arguments.bf16: use training.precision=bf16"),
    (
        "train training.arguments.group_by_length=true",
        "use batch.packing=sorted or balanced, wh",
    ),
    (
        "train training.arguments.save_only_model=true",
        "training.arguments.save_only_model cannot be set: a checkpoint without the optimizer "
        "cannot be resumed",
    ),
    ("train training.arguments=3", "training.arguments is a table; set training.arguments.NAME=VA"),
    ("train training.arguments.optim=lomo", "training.optimizer=lomo is refused: it changes"),
    (
        "train training.optimizer=adam",
        "training.optimizer is adam; it must be one of adamw, lion, ",
    ),
    (
        "train training.optimizer=sgd training.arguments.adam_beta2=0.9",
        "adam_beta2 is 0.9; it must be 0.999 with training.optimizer=sgd, which does not read it",
    ),
    (
        "train training.optimizer=sgd training.arguments.optim_args.momentun=0.9",
        "no such key; did you mean training.arguments.optim_args.momentum? sgd takes: momentum, "
        "dampening, nesterov",
    ),
    (
        "train training.optimizer=sgd training.arguments.optim_args.nesterov=true",
        "optim_args.nesterov is true; it must be false without optim_args.momentum",
    ),
    ("train training.arguments.optim_args.momentum=0.9", "no such key; adamw takes: nothing"),
    ("train generation.bad_words_ids=true", "is true; "),
    ("train training.arguments.optim_args=0.9", "optim_args is a table; set training.arguments.op"),
    (
        "train training.lr_scheduler_type=cosine "
        "training.arguments.lr_scheduler_kwargs.num_cycles=x",
        "lr_scheduler_kwargs.num_cycles is x; it must be a number greater than 0",
    ),
    (
        "train training.lr_scheduler_type=cosine_with_min_lr",
        "is {}; it must be a table with min_lr or min_lr_rate (one of them) for training.lr_sched",
    ),
    (
        "train training.lr_scheduler_type=polynomial "
        "training.arguments.lr_scheduler_kwargs.lr_end=1",
        "lr_end is 1; it must be less than training.learning_rate (",
    ),
    (
        "train training.lr_scheduler_type=reduce_lr_on_plateau "
        "training.arguments.lr_scheduler_kwargs.mode=min",
        "lr_scheduler_kwargs.mode is min; it must be one of max",
    ),
    (
        "train training.warmup_steps=1.5",
        "is 1.5; it must be a whole number of steps, or below",
    ),
    (
        "train training.optimizer=schedule_free_adamw",
        "training.lr_scheduler_type is linear; it must be constant with training.optimizer=sched",
    ),
    ("train training.optimizer=galore_adamw", "galore_adamw is refused: a checkpoint with its sta"),
    ("train training.arguments.tf32=true device=cpu", "must be null or false on a CPU, which has"),
    ("train generation.num_beam=4", "no such key; did you mean generation.num_beams? generation h"),
    ("train generation.num_beams=0", "generation.num_beams is 0; it must be 1 or more"),
    (
        "train generation.do_sample=true",
        "do_sample cannot be set: summaries are not sampled,",
    ),
    ("train generation.max_length=99", "use data.max_target_length=TOKENS, which cuts the refere"),
    ("train generation.length_penalty=2", "length_penalty is 2.0; it must be null with one beam,"),
    ("train generation.early_stopping=soon", "is soon; it must be one of true, false, never"),
    ("train generation.suppress_tokens=5", "it must be a list of ids of tokens, as in [5,6]"),
    ("train 'generation.bad_words_ids=[5]'", "it must be a list of lists of ids of tokens, as in"),
    ("train generation.min_length=999", "is 999; it must be at most data.max_target_length (128)"),
    ("train generation=beam metric.num_beams=2", "left out where generation.num_beams (4) is chos"),
    ("train generation=beams", "generation=beams: no such choice; did you mean generation=beam?"),
    # The batch
    (
        "train batch.per_device_train_batch_size=7",
        "batch.per_device_train_batch_size (7) does not divide batch.effective_batch_size (64); "
        "pairs that reach it: 1 x 64, 2 x 32, 4 x 16, 8 x 8, 16 x 4, 32 x 2, 64 x 1",
    ),
    (
        "train batch.per_device_train_batch_size=8 batch.gradient_accumulation_steps=4",
        "is 8 x 4 = 32, and batch.effective_batch_size is 64; name only one of the two",
    ),
    ("train batch.effective_batch_size=100", "(16) does not divide batch.effective_batch_size"),
    ("train batch.per_device_train_batch_size=0", "is 0; it must be 1 or more"),
    ("train batch=custom", "are both null; set one, the other follows"),
    ("train batch=auto batch.per_device_train_batch_size=8", "batch=auto chooses it"),
    ("train batch.max_tokens_per_micro_batch=9", "unless batch.packing=packed, which alone uses"),
    # Data and model
    ("train data=files", "data.train_file must be given, as in data.train_file=…"),
    ("train data=hub", "data.name must be given, as in data.name=…"),
    ("train model=pretrained", "model.name_or_path must be given, as in model.name_or_path=…"),
    ("train model=pretrained model.name_or_path=''", "model.name_or_path is ; it must be not e"),
    ("train data=files data.train_file=no.csv", "data.train_file: no.csv: there is no such file"),
    ("train data=files data.train_file=.", "data.train_file: .: this is a folder; name one file"),
    ("train data=files data.train_file=a.xlsx", "a.xlsx: the suffix '.xlsx' is not known; convert"),
    ("train data=files data.train_file=empty.csv", "empty.csv: the file is empty"),
    (
        f"train {COLUMNS}",
        "columns.csv: there is no column 'dialogue', only 'text', 'summary'; set "
        "data.dialogue_column to what it is called",
    ),
    (f"train {COLUMNS} data.dialogue_column=text", "line 3: the column 'summary' is empty; fill"),
    # The other commands
    ("status nowhere", "SWEEP: nowhere is not a directory; name a sweep"),
    ("status . watch=yes", "watch is yes; it must be true or false"),
    ("resume nowhere", "is no sweep (it has no sweep.json) and no run"),
    ("resume a b", "name one sweep or run at a time"),
    (
        "train batch.packing=unpadded training.torch_compile=true",
        "training.torch_compile is true; it must be false with batch.packing=unpadded",
    ),
    (
        "train batch.packing=unpadded training.pad_to_multiple_of=8",
        "training.pad_to_multiple_of is 8; it must be null with batch.packing=unpadded",
    ),
    (
        "train model=causal model.name_or_path=x model.attention=flash_attention_2 device=cpu",
        "model.attention is flash_attention_2; it must be null, eager or sdpa on a CPU",
    ),
    (
        "train model=causal model.name_or_path=x model.attention=flash",
        "model.attention is flash; it must be one of eager, sdpa, flash_attention_2",
    ),
    # Too long for the name of a file
    (f"status x={LONG}", "x: no such key; the keys are sweep and watch"),
    (f"resume nowhere seed={LONG}", "is no sweep (it has no sweep.json) and no run"),
    (f"train data=files data.train_file={LONG}", "cannot be read (File name too long)"),
    ("verify batch=05d", "batch=05d: no such choice; did you mean batch=05c?"),
    ("verify batch=05c batch.effective_batch_size=12", "(64) does not divide batch.effective_ba"),
    ("probe batch=05c batch.effective_batch_size=32", "(64) does not divide batch.effective_batch"),
    ("probe --jsn x", "--jsn"),
    ("doctor --watch", "unrecognized arguments: --watch; --help shows what there is"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a few files of a newcomer's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "a.xlsx").write_text("x")
    (tmp_path / "columns.csv").write_text("text,summary\na,b\nc,\n")
    return tmp_path


@pytest.mark.parametrize(("command", "expected"), MISTAKES)
def test_a_mistake_is_answered_in_one_line(command, expected, folder, monkeypatch, capsys):
    name, *words = shlex.split(command)
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(sys, "argv", [name, *words])
    module = importlib.import_module(f"batchopt.{name}")
    if not hasattr(module, "main"):  # a folder with a __main__.py
        module = importlib.import_module(f"batchopt.{name}.__main__")
    code = answer(module.main)
    printed = capsys.readouterr().err
    assert code == 2, printed
    (line,) = printed.splitlines()
    assert line.startswith("batchopt: ")
    assert expected in line
    assert sorted(folder.rglob("*")) == before, "a refused request writes nothing"


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit", "lion", "stable_adamw"])
def test_an_optimizer_without_its_package_is_answered_with_the_remedy(name, monkeypatch, capsys):
    monkeypatch.setattr("batchopt.request.optimizers.installed", lambda module: False)
    monkeypatch.setattr(sys, "argv", ["train", f"training.optimizer={name}"])
    assert answer(importlib.import_module("batchopt.train").main) == 2
    package = "torch-optimi" if name == "stable_adamw" else "bitsandbytes"
    assert capsys.readouterr().err == (
        f"batchopt: training.optimizer={name}: the package {package} is not installed; "
        f"pip install {package}\n"
    )


def test_the_same_through_the_real_command_line(folder):
    done = run_to_end([sys.executable, "-m", "batchopt.train", "batch=05d"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("batchopt: batch=05d: no such choice; did you mean batch=05c?")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("batch=", {"batch=05a", "batch=05b", "batch=05c", "batch=auto", "batch=custom"}),
        ("batch=05", {"batch=05a", "batch=05b", "batch=05c"}),
        ("mod", {"model=", "model."}),
        ("model=k", {"model=kobart"}),
        ("data=", {"data=files", "data=hub", "data=sample"}),
        ("hydra/launcher=sl", {"hydra/launcher=slurm"}),
        ("training.gradient_", {"training.gradient_checkpointing="}),
        ("batch=05a batch.per", {"batch.per_device_train_batch_size="}),
    ],
)
def test_the_shell_completes_groups_choices_and_keys(typed, offered, tmp_path):
    """Through Hydra's own entry, as `eval "$(python -m batchopt.train -sc install=bash)"` does."""
    done = subprocess.run(
        [sys.executable, "-m", "batchopt.train", "-sc", "query=bash"],
        cwd=tmp_path,
        env={
            "COMP_LINE": f"python -m batchopt.train {typed}",
            "COMP_POINT": str(len(f"python -m batchopt.train {typed}")),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(path for path in sys.path if path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert offered <= set(done.stdout.split()), done.stdout
    assert not list(tmp_path.iterdir())
