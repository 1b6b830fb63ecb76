"""Tracing: a graph as a program of `torch.export`, and that program as files for torch and for ONNX runtimes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from reverie.errors import UserError
from reverie.export.graphs import Graph
from reverie.export.port import Port
from reverie.export.portable import portable

OPSET = 20
"""of ONNX's default operators that files are written in"""
INSTALL = "pip install 'reverie-rl[export]'"


@dataclass(frozen=True)
class Traced:
    """A graph that was traced: for any number of streams. example: inputs that it was traced with, by name."""

    graph: Graph
    program: ExportedProgram
    example: dict[str, Tensor]
    outputs: list[Port]

    def described(self) -> dict[str, Any]:
        """What it is, its inputs and outputs, as a document."""
        document: dict[str, Any] = {
            "what": self.graph.what,
            "inputs": [port.described() for port in self.graph.inputs],
            "outputs": [port.described() for port in self.outputs],
        }
        if self.graph.steady is not None:
            numbers = self.graph.steady.tolist()
            document["steady_noise"] = numbers[0] if len(set(numbers)) == 1 else numbers
        return document

    def save_torch(self, path: Path) -> None:
        """Write a ``.pt2`` file: ``torch.export.load(path).module()`` maps a dict of tensors to a dict of tensors."""
        program = self.program
        read = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
        for each in program.graph_signature.input_specs:
            # Parts of a world model that this graph does not compute with would only make the file larger.
            if each.kind == InputKind.PARAMETER and each.arg.name not in read:
                program.state_dict[str(each.target)] = nn.Parameter(torch.empty(0), requires_grad=False)
        with _quiet():
            torch.export.save(program, path)

    def save_onnx(self, path: Path) -> None:
        """Write an ONNX file, with all its numbers in it. Raises UserError if ONNX lacks an operation of it."""
        need("onnxscript")
        from reverie.export.operators import TRANSLATIONS

        with _quiet():
            try:
                written = torch.onnx.export(
                    portable(self.program),
                    (self.example,),
                    input_names=[port.name for port in self.graph.inputs],
                    output_names=[port.name for port in self.outputs],
                    opset_version=OPSET,
                    custom_translation_table=TRANSLATIONS,
                    dynamo=True,
                    verbose=False,
                )
            except Exception as error:
                raise UserError(f"{path.stem} cannot be written as ONNX: {_last_line(error)}") from error
        assert written is not None
        for value in (*written.model.graph.inputs, *written.model.graph.outputs):
            if value.shape:
                value.shape[0] = "batch"
        written.save(path, external_data=False)


def trace(name: str, graph: Graph, example: Mapping[str, Tensor] | None = None) -> Traced:
    """A graph as a program for any number of streams. name: for messages. example: inputs of two or more streams.

    Raises UserError for a policy that is no function of tensors of any leading size.
    """
    given = dict(example if example is not None else examples(graph, 2))
    graph = graph.eval()
    with torch.no_grad():
        outputs = graph(given)
        wrong = {
            key: tuple(x.shape) for key, x in outputs.items() if x.shape[:1] != (len(given[graph.inputs[0].name]),)
        }
        if wrong:
            raise UserError(f"{name} cannot be exported: outputs without a leading axis of streams: {wrong}")
        with _quiet():
            try:
                shapes = {key: {0: Dim.DYNAMIC} for key in given}
                program = torch.export.export(graph, (given,), dynamic_shapes=(shapes,), strict=False)
            except Exception as error:
                raise UserError(f"{name} cannot be exported: {_last_line(error)}") from error
    return Traced(graph, program, given, [Port.of(key, value) for key, value in outputs.items()])


def examples(graph: Graph, batch: int, seed: int = 0) -> dict[str, Tensor]:
    """Inputs [batch, ...] of a graph by name, at random."""
    generator = np.random.default_rng(seed)
    return {port.name: port.example(batch, generator) for port in graph.inputs}


class Session:
    """An ONNX file in onnxruntime, on the CPU: a function of arrays by name. threads: within one operation."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        ort = need("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [each.name for each in self._session.get_inputs()]
        self.outputs = [each.name for each in self._session.get_outputs()]

    def __call__(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name; `given` may hold more than the inputs."""
        answer = self._session.run(None, {name: given[name] for name in self.inputs})
        return dict(zip(self.outputs, answer, strict=True))


def need(name: str) -> Any:
    """A module of the extra. Raises UserError if it is not there."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"an export to ONNX needs {name}: {INSTALL}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Context in which exporters tell nothing of their own work."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _last_line(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
