"""Go's text/template, read: the text of a label or an annotation to a small tree, with every mistake said at once.

Function names, variables and named templates are checked here, when a rule is loaded; what the tree means is
`template`'s.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEPTH_LIMIT = 50
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
class Token:
    kind: str
    text: str
    glued: bool  # no space before it: `$x.y` is a field of $x, `$x .y` are two operands


@dataclass(frozen=True)
class Literal:
    value: Any


@dataclass(frozen=True)
class Variable:
    name: str


class Dot:
    pass


@dataclass(frozen=True)
class Call:
    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Fields:
    base: Any
    names: tuple[str, ...]


@dataclass(frozen=True)
class Pipe:
    """`a | f x`: each command's value becomes the last argument of the next."""

    commands: tuple[Any, ...]


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Print:
    pipe: Pipe


@dataclass(frozen=True)
class Set:
    name: str
    pipe: Pipe
    declares: bool


@dataclass(frozen=True)
class Branch:
    """`if`, `with` or `range`; variables are those of `range $i, $x := …` or `with $x := …`."""

    kind: str
    variables: tuple[str, ...]
    pipe: Pipe
    body: tuple[Any, ...]
    otherwise: tuple[Any, ...]


@dataclass(frozen=True)
class Invoke:
    """`template "name" pipe`: a named template with a dot of its own."""

    name: str
    pipe: Pipe | None


@dataclass(frozen=True)
class Jump:
    """`break` or `continue`, of the innermost `range`."""

    kind: str


def _tokens(text: str) -> list[Token]:
    out, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise TemplateError(f'cannot read "{text[at : at + 20].strip()}" in {{{{ {text.strip()} }}}}; remove it')
        kind = match.lastgroup
        out.append(Token(kind, match.group(kind), match.start(kind) == at and at > 0))
        at = match.end()
    return out


class Parser:
    """Recursive descent over the pieces of one template."""

    def __init__(self, text: str, functions: Functions) -> None:
        self._functions = functions
        # Named templates, and those that are asked for.
        self.named: dict[str, tuple[Any, ...]] = {}
        self._asked: set[str] = set()
        self._ranges = 0
        self._pieces: list[Text | str] = []
        at, trim = 0, False
        for match in _ACTION.finditer(text):
            before = text[at : match.start()]
            before = before.lstrip() if trim else before
            self._pieces.append(Text(before.rstrip() if match.group(1) else before))
            inside = match.group(2)
            if not (inside.strip().startswith("/*") and inside.strip().endswith("*/")):
                self._pieces.append(inside)
            trim, at = bool(match.group(3)), match.end()
        rest = text[at:]
        if "{{" in rest:
            raise TemplateError('"{{" is never closed; add "}}"')
        self._pieces.append(Text(rest.lstrip() if trim else rest))
        self._at = 0
        self._line: list[Token] = []
        self._action = ""
        self._variables: list[set[str]] = [{"$"}]

    def parse(self, predeclared: Sequence[str]) -> tuple[Any, ...]:
        self._variables[0] |= set(predeclared)
        nodes, end = self._block(depth=0)
        if end:
            raise TemplateError(f"{{{{ {end} }}}} closes nothing; remove it")
        if missing := sorted(self._asked - set(self.named)):
            raise TemplateError(f'template "{missing[0]}" is not defined; add {{{{ define "{missing[0]}" }}}}')
        return nodes

    def _block(self, *, depth: int) -> tuple[tuple[Any, ...], str]:
        """Nodes up to `end` or `else`, and which of them (with its tokens left in _line)."""
        if depth > DEPTH_LIMIT:
            raise TemplateError(f"more than {DEPTH_LIMIT} levels of if, range and with; flatten it")
        nodes: list[Any] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            self._at += 1
            if isinstance(piece, Text):
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
            elif word in ("define", "block"):
                nodes += self._definition(word, depth=depth)
            elif word == "template":
                nodes.append(self._invocation())
            elif word in ("break", "continue"):
                if not self._ranges or len(self._line) > 1:
                    raise TemplateError(f"{{{{ {self._action} }}}} stands outside of a range; remove it")
                nodes.append(Jump(word))
            else:
                nodes.append(self._statement())
        return tuple(nodes), ""

    def _branch(self, kind: str, *, depth: int) -> Branch:
        action = self._action
        del self._line[0]
        variables = self._declared(many=kind == "range")
        pipe = self._whole_pipe()
        self._variables.append(set(variables))
        self._ranges += kind == "range"
        body, end = self._block(depth=depth + 1)
        self._ranges -= kind == "range"
        otherwise: tuple[Any, ...] = ()
        if end == "else":
            del self._line[0]
            if self._line:
                if self._line[0].text not in ("if", "with") or kind == "range":
                    raise TemplateError(f"cannot read {{{{ {self._action} }}}}; write else, or else if and a condition")
                otherwise = (self._branch(self._line[0].text, depth=depth + 1),)
                self._variables.pop()
                return Branch(kind, variables, pipe, body, otherwise)
            otherwise, end = self._block(depth=depth + 1)
        if end != "end":
            raise TemplateError(f"{{{{ {action} }}}} is never closed; add {{{{ end }}}}")
        self._variables.pop()
        return Branch(kind, variables, pipe, body, otherwise)

    def _definition(self, word: str, *, depth: int) -> list[Invoke]:
        """`define` at the top, or `block`, which is used where it stands as well."""
        action = self._action
        if depth and word == "define":
            raise TemplateError(f"{{{{ {action} }}}} stands inside of something else; move it out")
        del self._line[0]
        name = self._template_name()
        pipe = self._whole_pipe() if word == "block" else None
        if self._line:
            raise TemplateError(f'unexpected "{self._line[0].text}" in {{{{ {action} }}}}; remove it')
        outside, self._variables, ranges, self._ranges = self._variables, [{"$"}], self._ranges, 0
        body, end = self._block(depth=depth + 1)
        self._variables, self._ranges = outside, ranges
        if end != "end":
            raise TemplateError(f"{{{{ {action} }}}} is never closed; add {{{{ end }}}}")
        self.named[name] = body
        return [Invoke(name, pipe)] if word == "block" else []

    def _invocation(self) -> Invoke:
        del self._line[0]
        name = self._template_name()
        self._asked.add(name)
        return Invoke(name, self._whole_pipe() if self._line else None)

    def _template_name(self) -> str:
        token = self._line.pop(0) if self._line else None
        if token is None or token.kind not in ("string", "raw"):
            raise TemplateError(f"the template's name is missing in {{{{ {self._action} }}}}; add it in quotes")
        return str(ast.literal_eval(token.text)) if token.kind == "string" else token.text[1:-1]

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
            return Set(name, pipe, declares)
        return Print(self._whole_pipe())

    def _whole_pipe(self) -> Pipe:
        pipe = self._pipe(depth=0)
        if self._line:
            raise TemplateError(f'unexpected "{self._line[0].text}" in {{{{ {self._action} }}}}; remove it')
        return pipe

    def _pipe(self, *, depth: int) -> Pipe:
        if depth > DEPTH_LIMIT:
            raise TemplateError(f"more than {DEPTH_LIMIT} levels of parentheses; flatten it")
        commands = [self._command(depth=depth)]
        while self._line and self._line[0].text == "|" and self._line[0].kind == "mark":
            del self._line[0]
            commands.append(self._command(depth=depth))
            if not isinstance(commands[-1], Call):
                raise TemplateError(f"what follows | must be a function in {{{{ {self._action} }}}}")
        return Pipe(tuple(commands))

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
            return Call(first.text, tuple(arguments))
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
            base = Literal(ast.literal_eval(token.text))
        elif token.kind == "raw":
            base = Literal(token.text[1:-1])
        elif token.kind == "char":
            base = Literal(ord(ast.literal_eval(token.text)))
        elif token.kind == "number":
            plain = token.text.lstrip("+-")
            whole = plain.isdecimal() or plain[:2].lower() == "0x"
            base = Literal(int(token.text, 0 if plain[:2].lower() == "0x" else 10) if whole else float(token.text))
        elif token.kind == "variable":
            self._check_variable(token.text)
            base = Variable(token.text)
        elif token.kind == "dot":
            base = Dot()
        elif token.kind == "field":
            base = Fields(Dot(), (token.text[1:],))
        elif token.kind == "name":
            if token.text in ("true", "false", "nil"):
                base = Literal({"true": True, "false": False, "nil": None}[token.text])
            else:
                self._check_function(token.text)
                base = Call(token.text, ())
        elif token.text == "(":
            base = self._pipe(depth=depth + 1)
            if not self._line or self._line.pop(0).text != ")":
                raise TemplateError(f'"(" is never closed in {{{{ {self._action} }}}}; add ")"')
        else:
            raise TemplateError(f'unexpected "{token.text}" in {{{{ {self._action} }}}}; remove it')
        names = []
        while self._line and self._line[0].kind == "field" and self._line[0].glued:
            names.append(self._line.pop(0).text[1:])
        return Fields(base, tuple(names)) if names else base

    def _check_function(self, name: str) -> None:
        if name not in self._functions and name not in LAZY:
            raise TemplateError(f'unknown function "{name}"; use one of {", ".join(sorted([*self._functions, *LAZY]))}')

    def _check_variable(self, name: str) -> None:
        if not any(name in scope for scope in self._variables):
            raise TemplateError(f'undefined variable "{name}"; use $labels, $externalLabels, $externalURL or $value')
