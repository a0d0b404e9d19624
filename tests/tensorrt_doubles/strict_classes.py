"""Classes as pybind11 makes them, with exactly the names that a version has."""

import json
import os

_DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


class Surface:
    """The names of one version ("8.2", "rtx-1.7"): those listed, and the reviewed overlay's."""

    def __init__(self, version):
        self.version = version
        self._listed = _read("surface.json")
        self.overlay = _read("overlay.json")
        if version not in self._listed["versions"]:
            raise ValueError("version {} is not one of {}".format(version, ", ".join(self._listed["versions"])))

    def has(self, class_name):
        """Tell whether the version has a class."""
        listed = self._listed["classes"].get(class_name)
        return class_name in self.overlay["members"] or (listed is not None and self._in(listed["versions"]))

    def members(self, class_name):
        """Return the names that a class has in this version."""
        listed = self._listed["classes"].get(class_name, {"members": {}})["members"]
        found = set(self.pick(listed))
        return found | set(self.pick(self.overlay["members"].get(class_name, {})))

    def pick(self, by_versions):
        """Return the names under the keys ("*", "8.2 8.5") that hold for this version."""
        return [name for versions, names in by_versions.items() if self._in(versions) for name in names]

    def numbers(self, class_name):
        """Return an enumeration's numbers; where they are not known, ones that no code can guess."""
        for versions, numbers in self.overlay["flag_numbers"].get(class_name, {}).items():
            if self._in(versions):
                return numbers
        start = 3 * self._listed["versions"].index(self.version)
        return {name: start + index for index, name in enumerate(sorted(self.members(class_name)))}

    def operators(self):
        """Return the ONNX operators that this version's parser imports."""
        order = self._listed["versions"]
        newest = order.index(self.version)
        return {
            name
            for first, names in self.overlay["operators_from"].items()
            if order.index(first) <= newest
            for name in names.split()
        }

    def _in(self, versions):
        return versions == "*" or self.version in versions.split()


def _read(name):
    with open(os.path.join(_DATA, name), encoding="utf-8") as file:
        return json.load(file)


class _EnumerationMeta(type):
    def __iter__(cls):
        raise TypeError("pybind11's enumerations cannot be iterated")


def enumeration(name, numbers):
    """Return a class of named values as pybind11's `enum_`: equal to its own kind only, convertible by `int`."""

    def init(self, value):
        if value not in numbers.values():
            raise ValueError("{} is not a valid {}".format(value, name))
        self._number = value

    def equal(self, other):
        return type(other) is type(self) and other._number == self._number

    def text(self):
        return "{}.{}".format(name, self.name)

    content = {
        "__init__": init,
        "__eq__": equal,
        "__ne__": lambda self, other: not equal(self, other),
        "__hash__": lambda self: self._number,
        "__int__": lambda self: self._number,
        "__repr__": lambda self: "<{}: {}>".format(text(self), self._number),
        "__str__": text,
        "name": property(lambda self: next(key for key, number in numbers.items() if number == self._number)),
        "value": property(lambda self: self._number),
    }
    made = _EnumerationMeta(name, (object,), content)
    for key, number in numbers.items():
        setattr(made, key, made(number))
    made.__members__ = {key: getattr(made, key) for key in numbers}
    return made


def strict_class(template, surface, module):
    """Return `template` with only the public names of the version, `_m` being the module it belongs to.

    A name of the version that the template lacks exists and says that the double does not model it.
    """
    name = template.__name__
    allowed = surface.members(name)
    content = {
        key: value for key, value in vars(template).items() if key not in ("__dict__", "__weakref__")
        if key.startswith("_") or key in allowed
    }  # fmt: skip
    for key in allowed:
        if key not in content and not key.startswith("__"):
            content[key] = _not_modelled(name, key)

    def set_attribute(self, key, value):
        if type(self) is made and not key.startswith("_") and key not in allowed:
            raise AttributeError("'{}' object has no attribute '{}'".format(name, key))
        object.__setattr__(self, key, value)

    content["__setattr__"] = set_attribute
    content["_m"] = module
    made = type(name, (object,), content)
    return made


def _not_modelled(class_name, key):
    def refuse(_self, *_values):
        raise NotImplementedError("the double does not model {}.{}".format(class_name, key))

    return property(refuse, refuse)


def check_type(function, value, *classes):
    """Raise TypeError in pybind11's words for an argument of another type."""
    if not isinstance(value, classes) or (isinstance(value, bool) and bool not in classes):
        names = " or ".join(item.__name__ for item in classes)
        raise TypeError(
            "{}(): incompatible function arguments. The following argument types are supported: {}; invoked with: "
            "{!r}".format(function, names, value)
        )
