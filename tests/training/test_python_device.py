"""The device of pure Python refuses and counts what a GPU would: it is what other tests rely on."""

import pytest
import torch
from support.python_device import DEVICE, NAME, python_device


@pytest.fixture
def device():
    with python_device() as device:
        yield device


def there(*values, **options):
    made = torch.tensor(values, **options).pin_memory().to(NAME, non_blocking=True)
    DEVICE.reset()
    return made


def test_it_computes_what_the_cpu_computes(device):
    torch.manual_seed(0)
    here = [torch.randn(3, 3, requires_grad=True) for _ in range(2)]
    copies = [tensor.detach().to(NAME).requires_grad_() for tensor in here]
    for one, other in (here, copies):
        (torch.softmax(one @ other, 1) ** 2).sum().backward()
    for ours, theirs in zip(copies, here, strict=True):
        assert ours.grad.device.type == NAME
        assert torch.equal(ours.grad.cpu(), theirs.grad)


@pytest.mark.parametrize(
    "meet",
    [
        lambda one: one + torch.ones(2),
        lambda one: torch.stack([one[0], torch.tensor(1.0)]),
        lambda one: torch.mm(one[None], torch.ones(2, 1)),
        lambda one: torch.nn.functional.embedding(torch.tensor([0]), one[None]),
        lambda one: one[torch.tensor([0])],
    ],
    ids=["add", "a number in a stack", "product", "embedding", "index"],
)
def test_tensors_of_two_devices_do_not_meet(device, meet):
    with pytest.raises(RuntimeError, match="two, pygpu:0 and cpu"):
        meet(there(1.0, 2.0))


def test_a_number_of_the_host_may_go_into_an_operation_by_element(device):
    assert (there(1.0, 2.0) * torch.tensor(3.0)).tolist() == [3.0, 6.0]


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda x: x[0].item(), "_local_scalar_dense"),
        (lambda x: float(x.sum()), "_local_scalar_dense"),
        (lambda x: bool(x.any()), "_local_scalar_dense"),
        (lambda x: x[x > 1], "boolean index"),
        (lambda x: x.masked_select(x > 1), "masked_select"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x.cpu(), "copy to the host"),
        (lambda x: x.tolist(), "copy to the host"),
        (lambda x: x.new_tensor(3.0), "copy to the device"),
        (lambda x: torch.ones(2).to(NAME), "copy to the device"),
        (lambda x: torch.ones(2).pin_memory().to(NAME), "copy to the device"),
        (lambda x: torch.ones(2).to(NAME, non_blocking=True), "copy from pageable memory"),
    ],
)
def test_what_a_gpu_would_wait_for_is_listed_with_its_line(device, ask, why):
    ask(there(1.0, 2.0))
    (wait,) = device.waits
    assert wait.startswith(f"{why} @ {__name__}:")


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: torch.full((2,), 3.0, device=NAME) + torch.arange(2, device=NAME),
        lambda x: x.index_select(0, torch.zeros(1, dtype=torch.long, device=NAME)),
        lambda x: torch.where(x > 1, x, 0.0).sum(),
        lambda x: torch.ones(2).pin_memory().to(NAME, non_blocking=True),
        lambda x: torch.nn.utils.get_total_norm([x, x]),
    ],
    ids=["factories", "index", "where", "pinned copy", "norm"],
)
def test_what_a_gpu_does_by_itself_is_not_listed(device, ask):
    ask(there(1.0, 2.0))
    assert device.waits == []


def test_an_event_has_passed_once_the_host_has_waited(device):
    events = [torch.get_device_module(NAME).Event(enable_timing=True) for _ in range(2)]
    for event in events:
        event.record()
    with pytest.raises(RuntimeError, match="not ready"):
        events[0].elapsed_time(events[1])
    there(1.0).item()
    assert events[0].elapsed_time(events[1]) >= 0


def test_autocast_casts_there(device):
    with torch.autocast(NAME, torch.bfloat16):
        product = there(1.0, 2.0)[None] @ there(1.0, 2.0)[:, None]
        assert product.dtype == torch.bfloat16
        assert torch.softmax(product, 0).dtype == torch.float32


def test_nobody_finds_it_while_it_is_off():
    assert not torch.accelerator.is_available()
    assert not torch.ones(1).is_pinned()
