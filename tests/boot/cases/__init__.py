"""The boot cases, a file for each subject.

A case is a function of one Case under @case, in any file of this folder; its name, with - for _, is
the name of the test. A new file needs no entry elsewhere: this package imports all its files.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
