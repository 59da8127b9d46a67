"""Templates of labels and annotations: what Go's text/template does, over a small tree that was parsed before.

`{{ $labels.pod }} is at {{ $value | humanizePercentage }}` is parsed once, when the rule is loaded (`template_parser`);
it is expanded once an alert. There is no way from a template to Python: values are text, numbers, booleans, lists and
dicts, functions are those of `template_functions`, and length and turns are bounded.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bellbuoy.rules.go_format import GoValue, format_value
from bellbuoy.rules.template_parser import (
    DEPTH_LIMIT,
    LAZY,
    Branch,
    Call,
    Dot,
    Fields,
    Functions,
    Invoke,
    Jump,
    Literal,
    Parser,
    Print,
    Set,
    TemplateError,
    Text,
    Variable,
)

__all__ = ["Template", "TemplateError", "truth"]
OUTPUT_LIMIT = 64 << 10
STEP_LIMIT = 20_000


def truth(value: Any) -> bool:
    """Whether Go's `if` takes it for true: not zero, not empty."""
    return bool(value)


class Template:
    """A template that has been read. Raises TemplateError when it cannot be."""

    def __init__(self, text: str, *, functions: Functions, variables: Sequence[str]) -> None:
        self._plain = text if "{{" not in text else None
        self._nodes: tuple[Any, ...] = ()
        self._named: Mapping[str, tuple[Any, ...]] = {}
        if self._plain is None:
            parser = Parser(text, functions)
            self._nodes, self._named = parser.parse(variables), parser.named

    def expand(self, *, functions: Functions, variables: Mapping[str, Any], dot: Any) -> str:
        """The text with all actions done. Raises TemplateError."""
        if self._plain is not None:
            return self._plain
        run = _Run(functions, {"$": dot, **variables}, self._named)
        run.block(self._nodes, dot)
        return "".join(run.out)


class _Jumped(Exception):  # no error: a way out of the body of a range
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class _Run:
    """One expansion: output, variables and a budget of steps."""

    def __init__(self, functions: Functions, variables: dict[str, Any], named: Mapping[str, tuple[Any, ...]]) -> None:
        self._functions, self._named = functions, named
        self._scopes = [variables]
        self._depth = 0
        self._steps = 0
        self._length = 0
        self.out: list[str] = []

    def _step(self) -> None:
        self._steps += 1
        if self._steps > STEP_LIMIT:
            raise TemplateError(f"more than {STEP_LIMIT} steps; let the query return less")

    def _write(self, text: str) -> None:
        self._length += len(text)
        if self._length > OUTPUT_LIMIT:
            raise TemplateError(f"more than {OUTPUT_LIMIT} characters; let the query return less")
        self.out.append(text)

    def block(self, nodes: Sequence[Any], dot: Any) -> None:
        for node in nodes:
            self._step()
            if isinstance(node, Text):
                self._write(node.text)
            elif isinstance(node, Print):
                value = self.value(node.pipe, dot)
                self._write("<no value>" if value is None else format_value(value))
            elif isinstance(node, Set):
                self._assign(node, self.value(node.pipe, dot))
            elif isinstance(node, Invoke):
                self._invoke(node, dot)
            elif isinstance(node, Jump):
                raise _Jumped(node.kind)
            else:
                self._branch(node, dot)

    def _invoke(self, node: Invoke, dot: Any) -> None:
        inner = None if node.pipe is None else self.value(node.pipe, dot)
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise TemplateError(f"more than {DEPTH_LIMIT} templates inside of each other; flatten them")
        outside, self._scopes = self._scopes, [{"$": inner}]
        self.block(self._named[node.name], inner)
        self._scopes = outside
        self._depth -= 1

    def _assign(self, node: Set, value: Any) -> None:
        if node.declares:
            self._scopes[-1][node.name] = value
            return
        for scope in reversed(self._scopes):
            if node.name in scope:
                scope[node.name] = value
                return

    def _branch(self, node: Branch, dot: Any) -> None:
        value = self.value(node.pipe, dot)
        if node.kind == "range":
            self._range(node, value, dot)
            return
        self._scopes.append(dict.fromkeys(node.variables, value))
        if truth(value):
            self.block(node.body, value if node.kind == "with" else dot)
        else:
            self.block(node.otherwise, dot)
        self._scopes.pop()

    def _range(self, node: Branch, value: Any, dot: Any) -> None:
        if isinstance(value, Mapping):
            pairs: list[tuple[Any, Any]] = sorted(value.items())
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif not value:
            pairs = []
        else:
            raise TemplateError(f"range can't iterate over {format_value(value)}; give it a list or a map")
        for key, item in pairs:
            self._step()
            names = node.variables
            scopes = len(self._scopes)
            self._scopes.append(dict(zip(names, (key, item) if len(names) == 2 else (item,), strict=False)))
            jumped = ""
            try:
                self.block(node.body, item)
            except _Jumped as jump:
                jumped = jump.kind
            del self._scopes[scopes:]
            if jumped == "break":
                break
        if not pairs:
            self.block(node.otherwise, dot)

    def value(self, node: Any, dot: Any) -> Any:
        self._step()
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, Dot):
            return dot
        if isinstance(node, Variable):
            return next(scope[node.name] for scope in reversed(self._scopes) if node.name in scope)
        if isinstance(node, Fields):
            return self._fields(node, dot)
        if isinstance(node, Call):
            return self._call(node, dot, ())
        value = self.value(node.commands[0], dot)
        for call in node.commands[1:]:
            value = self._call(call, dot, (value,))
        return value

    def _fields(self, node: Fields, dot: Any) -> Any:
        value = self.value(node.base, dot)
        for name in node.names:
            if isinstance(value, GoValue):
                try:
                    value = value.field(name)
                except ValueError as e:
                    raise TemplateError(str(e)) from e
                continue
            if not isinstance(value, Mapping):
                raise TemplateError(f"can't evaluate field {name} in {format_value(value)}; only maps have fields")
            if name not in value and "Labels" in value:
                raise TemplateError(f"can't evaluate field {name}; use one of {', '.join(value)}")
            value = value.get(name, "")
        return value

    def _call(self, node: Call, dot: Any, last: tuple[Any, ...]) -> Any:
        if node.name in LAZY:
            result: Any = None
            for argument in [*node.arguments, *(Literal(value) for value in last)]:
                result = self.value(argument, dot)
                if truth(result) == (node.name == "or"):
                    return result
            return result
        arguments = [self.value(argument, dot) for argument in node.arguments]
        try:
            return self._functions[node.name](*arguments, *last)
        except (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError, ArithmeticError) as e:
            text = f"missing {e}" if isinstance(e, KeyError) else str(e).replace("<lambda>()", "it")
            raise TemplateError(f"error calling {node.name}: {text}") from e
