"""The weights of a model as a mapping that can be written to."""
import collections.abc


class Parameters(collections.abc.MutableMapping):
    """Names and arrays in the model's own memory. Assigning writes the values there: the array of a name stays the same."""

    def __init__(self, arrays):
        self._arrays = arrays

    def __getitem__(self, name):
        return self._arrays[name]

    def __setitem__(self, name, values):
        if name not in self._arrays:
            raise KeyError(f"{name!r} is no parameter of this model")
        if values is not self._arrays[name]:  # as after `parameters[name] *= 2`
            self._arrays[name][...] = values

    def __delitem__(self, name):
        raise TypeError("a parameter cannot be removed")

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self):
        return len(self._arrays)

    def __repr__(self):
        return f"Parameters({', '.join(f'{name}: {array.shape}' for name, array in self._arrays.items())})"
