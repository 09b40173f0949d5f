"""Puts model, optimizer and random numbers back, bit for bit, however the code in between ends."""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy
import torch
from torch import Tensor, nn


class Interrupts:
    """Lets one Ctrl-C through while `let_through` is entered, and holds all others back.

    So a Ctrl-C ends what can be ended at once, and never a copy that is half written. One that came
    at another time is raised at the end.
    """

    def __init__(self) -> None:
        self._open = False
        self._waiting = False
        self._theirs: Any = None

    def __enter__(self) -> "Interrupts":
        # Python lets only the main thread set handlers, and interrupts only that one.
        if threading.current_thread() is threading.main_thread():
            theirs = signal.getsignal(signal.SIGINT)
            if callable(theirs):
                self._theirs = theirs
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._theirs is None:
            return
        signal.signal(signal.SIGINT, self._theirs)
        if self._waiting and kind is not KeyboardInterrupt:
            self._theirs(signal.SIGINT, None)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Where Ctrl-C may interrupt; not if one is waiting already."""
        try:
            self._open = True
            if self._waiting:
                self._handle(signal.SIGINT, None)
            yield
        finally:
            self._open = False

    def _handle(self, number: int, frame: Any) -> None:
        if not self._open:
            self._waiting = True
            return
        self._open = self._waiting = False  # whatever follows must not interrupt the putting back
        self._theirs(number, frame)


class Untouched:
    """Keeps what a training changes, and lends the model for one.

    Trained weights, buffers and the state of the optimizer are copied to host memory. A model that
    moves to another device gets copies there instead, and its own tensors are not written to.
    Gradients are taken off and come back. What stands beside the tensors (training mode,
    attributes, the config, the optimizer's groups) comes back too.
    """

    def __init__(self, model: nn.Module, optimizer: Any, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.held_bytes = 0
        """Host memory that the copies take."""
        # Accelerate wraps optimizers.
        self.optimizer = getattr(optimizer, "optimizer", optimizer)
        self._undo: list[Callable[[], object]] = []

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Keeps everything on entry, and puts it back at the end."""
        with Interrupts() as interrupts:
            try:
                self._keep_random_numbers()
                self._keep_attributes()
                self._keep_optimizer()
                self._keep_tensors()
                with interrupts.let_through():
                    yield
            finally:
                while self._undo:
                    self._undo.pop()()
                self.held_bytes = 0

    def _keep_random_numbers(self) -> None:
        python, host = random.getstate(), torch.get_rng_state()
        numbers = numpy.random.get_state()
        self._undo.append(lambda: random.setstate(python))
        self._undo.append(lambda: numpy.random.set_state(numbers))
        self._undo.append(lambda: torch.set_rng_state(host))
        if torch.cuda.is_available():
            devices = torch.cuda.get_rng_state_all()
            self._undo.append(lambda: torch.cuda.set_rng_state_all(devices))

    def _keep_attributes(self) -> None:
        """Keeps what the modules refer to, without the contents of tensors."""
        for module in self.model.modules():
            for part in (module.__dict__, module._parameters, module._buffers, module._modules):
                self._undo.append(_refill(part))
        config = getattr(self.model, "config", None)
        if config is not None:
            self._undo.append(_refill(config.__dict__))

    def _keep_optimizer(self) -> None:
        if self.optimizer is None:
            return
        self._undo.append(_refill(self.optimizer.__dict__))
        self._undo.append(_refill(self.optimizer.state))
        for state in self.optimizer.state.values():
            self._keep_values(state)
        for group in self.optimizer.param_groups:
            self._keep_values(group)

    def _keep_values(self, values: dict[str, Any]) -> None:
        """Keeps the state of one parameter, or one group, of an optimizer."""
        self._undo.append(_refill(values))
        for name, value in values.items():
            if name == "params":
                continue
            if isinstance(value, Tensor):
                self._copy(value)
            elif isinstance(value, dict):
                self._keep_values(value)
            elif isinstance(value, list):
                self._undo.append(partial(value.__setitem__, slice(None), list(value)))

    def _keep_tensors(self) -> None:
        """Keeps gradients and contents, and moves the model to where the training is."""
        moved: dict[int, Any] = {}  # tied weights stay tied
        for weight in self.model.parameters():
            self._undo.append(partial(setattr, weight, "grad", weight.grad))
            weight.grad = None
            if weight.device != self.device:
                copy = nn.Parameter(weight.detach().to(self.device), weight.requires_grad)
                moved[id(weight)] = copy
            elif weight.requires_grad:  # a frozen weight does not change
                self._copy(weight)
        for buffer in self.model.buffers():
            if buffer.device != self.device:
                moved[id(buffer)] = buffer.to(self.device)
            else:
                self._copy(buffer)
        # _keep_attributes has seen the tensors that are replaced here.
        for module in self.model.modules():
            for part in (module._parameters, module._buffers):
                part.update(
                    {name: moved[id(one)] for name, one in part.items() if id(one) in moved}
                )

    def _copy(self, tensor: Tensor) -> None:
        copy = tensor.detach().to("cpu", copy=True)
        self.held_bytes += copy.numel() * copy.element_size()

        def write_back() -> None:
            with torch.no_grad():
                tensor.copy_(copy)

        self._undo.append(write_back)


def _refill(values: Any) -> Callable[[], None]:
    """Remembers what is in a dict; the function that is returned puts exactly that back."""
    kept = dict(values)

    def put_back() -> None:
        values.clear()
        values.update(kept)

    return put_back
