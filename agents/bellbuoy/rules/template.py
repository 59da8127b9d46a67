"""Templates of labels and annotations: the part of Go's text/template that alerting rules use, parsed to a small tree.

`{{ $labels.pod }} is at {{ $value | humanizePercentage }}` is parsed once, when the rule is loaded, and every function
name is checked then; it is expanded once an alert. There is no way from a template to Python: values are text, numbers,
booleans, lists and dicts, functions are those of `template_functions`, and length and turns are bounded. `define`,
`template` and `block` are left out.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bellbuoy.rules.go_format import format_value

OUTPUT_LIMIT = 64 << 10
DEPTH_LIMIT = 50
STEP_LIMIT = 20_000
Functions = Mapping[str, Callable[..., Any]]
# Evaluated by the tree itself: they do not evaluate all their arguments.
LAZY = ("and", "or")

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<raw>`[^`]*`)|(?P<char>'(?:[^'\\\n]|\\.)+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))
    |(?P<variable>\$\w*)|(?P<field>\.[A-Za-z_]\w*)|(?P<dot>\.)|(?P<name>[A-Za-z_]\w*)|(?P<mark>:=|[=|(),]))""",
    re.VERBOSE,
)


class TemplateError(ValueError):
    """A template that cannot be read or expanded; the text says what and how to mend it."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    glued: bool  # no space before it: `$x.y` is a field of $x, `$x .y` are two operands


@dataclass(frozen=True)
class _Literal:
    value: Any


@dataclass(frozen=True)
class _Variable:
    name: str


class _Dot:
    pass


@dataclass(frozen=True)
class _Call:
    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _Fields:
    base: Any
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Pipe:
    """`a | f x`: each command's value becomes the last argument of the next."""

    commands: tuple[Any, ...]


@dataclass(frozen=True)
class _Text:
    text: str


@dataclass(frozen=True)
class _Print:
    pipe: _Pipe


@dataclass(frozen=True)
class _Set:
    name: str
    pipe: _Pipe
    declares: bool


@dataclass(frozen=True)
class _Branch:
    """`if`, `with` or `range`; variables are those of `range $i, $x := …` or `with $x := …`."""

    kind: str
    variables: tuple[str, ...]
    pipe: _Pipe
    body: tuple[Any, ...]
    otherwise: tuple[Any, ...]


def _tokens(text: str) -> list[_Token]:
    out, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise TemplateError(f'cannot read "{text[at : at + 20].strip()}" in {{{{ {text.strip()} }}}}; remove it')
        kind = match.lastgroup
        out.append(_Token(kind, match.group(kind), match.start(kind) == at and at > 0))
        at = match.end()
    return out


class _Parser:
    """Recursive descent over the pieces of one template."""

    def __init__(self, text: str, functions: Functions) -> None:
        self._functions = functions
        self._pieces: list[_Text | str] = []
        at, trim = 0, False
        for match in _ACTION.finditer(text):
            before = text[at : match.start()]
            before = before.lstrip() if trim else before
            self._pieces.append(_Text(before.rstrip() if match.group(1) else before))
            inside = match.group(2)
            if not (inside.strip().startswith("/*") and inside.strip().endswith("*/")):
                self._pieces.append(inside)
            trim, at = bool(match.group(3)), match.end()
        rest = text[at:]
        if "{{" in rest:
            raise TemplateError('"{{" is never closed; add "}}"')
        self._pieces.append(_Text(rest.lstrip() if trim else rest))
        self._at = 0
        self._line: list[_Token] = []
        self._action = ""
        self._variables: list[set[str]] = [{"$"}]

    def parse(self, predeclared: Sequence[str]) -> tuple[Any, ...]:
        self._variables[0] |= set(predeclared)
        nodes, end = self._block(depth=0)
        if end:
            raise TemplateError(f"{{{{ {end} }}}} closes nothing; remove it")
        return nodes

    def _block(self, *, depth: int) -> tuple[tuple[Any, ...], str]:
        """Nodes up to `end` or `else`, and which of them (with its tokens left in _line)."""
        if depth > DEPTH_LIMIT:
            raise TemplateError(f"more than {DEPTH_LIMIT} levels of if, range and with; flatten it")
        nodes: list[Any] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            self._at += 1
            if isinstance(piece, _Text):
                if piece.text:
                    nodes.append(piece)
                continue
            self._line, self._action = _tokens(piece), piece.strip()
            if not self._line:
                raise TemplateError("{{ }} is empty; write a value, such as $value, or remove it")
            first = self._line[0]
            word = first.text if first.kind == "name" else ""
            if word in ("end", "else"):
                return tuple(nodes), word
            if word in ("if", "range", "with"):
                nodes.append(self._branch(word, depth=depth))
            elif word in ("define", "template", "block", "break", "continue"):
                raise TemplateError(f'"{word}" is not supported; write the text out')
            else:
                nodes.append(self._statement())
        return tuple(nodes), ""

    def _branch(self, kind: str, *, depth: int) -> _Branch:
        action = self._action
        del self._line[0]
        variables = self._declared(many=kind == "range")
        pipe = self._whole_pipe()
        self._variables.append(set(variables))
        body, end = self._block(depth=depth + 1)
        otherwise: tuple[Any, ...] = ()
        if end == "else":
            del self._line[0]
            if self._line:
                if self._line[0].text not in ("if", "with") or kind == "range":
                    raise TemplateError(f"cannot read {{{{ {self._action} }}}}; write else, or else if and a condition")
                otherwise = (self._branch(self._line[0].text, depth=depth + 1),)
                self._variables.pop()
                return _Branch(kind, variables, pipe, body, otherwise)
            otherwise, end = self._block(depth=depth + 1)
        if end != "end":
            raise TemplateError(f"{{{{ {action} }}}} is never closed; add {{{{ end }}}}")
        self._variables.pop()
        return _Branch(kind, variables, pipe, body, otherwise)

    def _declared(self, *, many: bool) -> tuple[str, ...]:
        kinds = [token.kind if token.kind != "mark" else token.text for token in self._line[:4]]
        if kinds[:2] == ["variable", ":="]:
            names: tuple[str, ...] = (self._line[0].text,)
        elif many and kinds == ["variable", ",", "variable", ":="]:
            names = (self._line[0].text, self._line[2].text)
        else:
            return ()
        del self._line[: 2 * len(names)]
        return names

    def _statement(self) -> Any:
        kinds = [token.kind if token.kind != "mark" else token.text for token in self._line[:2]]
        if kinds[0] == "variable" and kinds[1:] in ([":="], ["="]):
            name = self._line[0].text
            declares = kinds[1] == ":="
            del self._line[:2]
            pipe = self._whole_pipe()
            if declares:
                self._variables[-1].add(name)
            else:
                self._check_variable(name)
            return _Set(name, pipe, declares)
        return _Print(self._whole_pipe())

    def _whole_pipe(self) -> _Pipe:
        pipe = self._pipe(depth=0)
        if self._line:
            raise TemplateError(f'unexpected "{self._line[0].text}" in {{{{ {self._action} }}}}; remove it')
        return pipe

    def _pipe(self, *, depth: int) -> _Pipe:
        if depth > DEPTH_LIMIT:
            raise TemplateError(f"more than {DEPTH_LIMIT} levels of parentheses; flatten it")
        commands = [self._command(depth=depth)]
        while self._line and self._line[0].text == "|" and self._line[0].kind == "mark":
            del self._line[0]
            commands.append(self._command(depth=depth))
            if not isinstance(commands[-1], _Call):
                raise TemplateError(f"what follows | must be a function in {{{{ {self._action} }}}}")
        return _Pipe(tuple(commands))

    def _command(self, *, depth: int) -> Any:
        if not self._line:
            raise TemplateError(f"a value is missing in {{{{ {self._action} }}}}; add it")
        first = self._line[0]
        if first.kind == "name" and first.text not in ("true", "false", "nil"):
            del self._line[0]
            self._check_function(first.text)
            arguments = []
            while self._line and not (self._line[0].kind == "mark" and self._line[0].text in ("|", ")", ",")):
                arguments.append(self._operand(depth=depth))
            return _Call(first.text, tuple(arguments))
        operand = self._operand(depth=depth)
        if self._line and not (self._line[0].kind == "mark" and self._line[0].text in ("|", ")")):
            raise TemplateError(
                f'"{self._line[0].text}" follows a value in {{{{ {self._action} }}}}; put a function first'
            )
        return operand

    def _operand(self, *, depth: int) -> Any:
        token = self._line.pop(0)
        base: Any
        if token.kind == "string":
            base = _Literal(ast.literal_eval(token.text))
        elif token.kind == "raw":
            base = _Literal(token.text[1:-1])
        elif token.kind == "char":
            base = _Literal(ord(ast.literal_eval(token.text)))
        elif token.kind == "number":
            plain = token.text.lstrip("+-")
            whole = plain.isdecimal() or plain[:2].lower() == "0x"
            base = _Literal(int(token.text, 0 if plain[:2].lower() == "0x" else 10) if whole else float(token.text))
        elif token.kind == "variable":
            self._check_variable(token.text)
            base = _Variable(token.text)
        elif token.kind == "dot":
            base = _Dot()
        elif token.kind == "field":
            base = _Fields(_Dot(), (token.text[1:],))
        elif token.kind == "name":
            if token.text in ("true", "false", "nil"):
                base = _Literal({"true": True, "false": False, "nil": None}[token.text])
            else:
                self._check_function(token.text)
                base = _Call(token.text, ())
        elif token.text == "(":
            base = self._pipe(depth=depth + 1)
            if not self._line or self._line.pop(0).text != ")":
                raise TemplateError(f'"(" is never closed in {{{{ {self._action} }}}}; add ")"')
        else:
            raise TemplateError(f'unexpected "{token.text}" in {{{{ {self._action} }}}}; remove it')
        names = []
        while self._line and self._line[0].kind == "field" and self._line[0].glued:
            names.append(self._line.pop(0).text[1:])
        return _Fields(base, tuple(names)) if names else base

    def _check_function(self, name: str) -> None:
        if name not in self._functions and name not in LAZY:
            raise TemplateError(f'unknown function "{name}"; use one of {", ".join(sorted([*self._functions, *LAZY]))}')

    def _check_variable(self, name: str) -> None:
        if not any(name in scope for scope in self._variables):
            raise TemplateError(f'undefined variable "{name}"; use $labels, $externalLabels, $externalURL or $value')


def truth(value: Any) -> bool:
    """Whether Go's `if` takes it for true: not zero, not empty."""
    return bool(value)


class Template:
    """A template that has been read. Raises TemplateError when it cannot be."""

    def __init__(self, text: str, *, functions: Functions, variables: Sequence[str]) -> None:
        self._plain = text if "{{" not in text else None
        self._nodes = _Parser(text, functions).parse(variables) if self._plain is None else ()

    def expand(self, *, functions: Functions, variables: Mapping[str, Any], dot: Any) -> str:
        """The text with all actions done. Raises TemplateError."""
        if self._plain is not None:
            return self._plain
        run = _Run(functions, {"$": dot, **variables})
        run.block(self._nodes, dot)
        return "".join(run.out)


class _Run:
    """One expansion: output, variables and a budget of steps."""

    def __init__(self, functions: Functions, variables: dict[str, Any]) -> None:
        self._functions = functions
        self._scopes = [variables]
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
            if isinstance(node, _Text):
                self._write(node.text)
            elif isinstance(node, _Print):
                value = self.value(node.pipe, dot)
                self._write("<no value>" if value is None else format_value(value))
            elif isinstance(node, _Set):
                self._assign(node, self.value(node.pipe, dot))
            else:
                self._branch(node, dot)

    def _assign(self, node: _Set, value: Any) -> None:
        if node.declares:
            self._scopes[-1][node.name] = value
            return
        for scope in reversed(self._scopes):
            if node.name in scope:
                scope[node.name] = value
                return

    def _branch(self, node: _Branch, dot: Any) -> None:
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

    def _range(self, node: _Branch, value: Any, dot: Any) -> None:
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
            self._scopes.append(dict(zip(names, (key, item) if len(names) == 2 else (item,), strict=False)))
            self.block(node.body, item)
            self._scopes.pop()
        if not pairs:
            self.block(node.otherwise, dot)

    def value(self, node: Any, dot: Any) -> Any:
        self._step()
        if isinstance(node, _Literal):
            return node.value
        if isinstance(node, _Dot):
            return dot
        if isinstance(node, _Variable):
            return next(scope[node.name] for scope in reversed(self._scopes) if node.name in scope)
        if isinstance(node, _Fields):
            return self._fields(node, dot)
        if isinstance(node, _Call):
            return self._call(node, dot, ())
        value = self.value(node.commands[0], dot)
        for call in node.commands[1:]:
            value = self._call(call, dot, (value,))
        return value

    def _fields(self, node: _Fields, dot: Any) -> Any:
        value = self.value(node.base, dot)
        for name in node.names:
            if not isinstance(value, Mapping):
                raise TemplateError(f"can't evaluate field {name} in {format_value(value)}; only maps have fields")
            if name not in value and "Labels" in value:
                raise TemplateError(f"can't evaluate field {name}; use one of {', '.join(value)}")
            value = value.get(name, "")
        return value

    def _call(self, node: _Call, dot: Any, last: tuple[Any, ...]) -> Any:
        if node.name in LAZY:
            values: list[Any] = [*node.arguments]
            result: Any = None
            for argument in [*values, *(_Literal(value) for value in last)]:
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
