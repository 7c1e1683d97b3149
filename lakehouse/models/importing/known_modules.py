"""What a pickled model may name: the one place with the lists of packages, classes and functions.

A package that is known is not all harmless: many have functions that read files or run text. So of a known package a
pickle may name classes, by how they are spelled, and of functions only those that are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LIBRARIES: Mapping[str, str] = {
    "sklearn": "scikit-learn", "xgboost": "xgboost", "lightgbm": "lightgbm", "catboost": "catboost",
    "statsmodels": "statsmodels", "numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "joblib": "joblib",
    "imblearn": "imbalanced-learn", "category_encoders": "category-encoders", "sklearn_pandas": "sklearn-pandas",
}  # fmt: skip
"""Known data-science packages: the module, and what is installed for it."""
CARRIERS = ("cloudpickle", "dill")
"""Packages that put functions and classes themselves into a pickle: code that it brings along."""
CODE: Mapping[str, frozenset[str]] = {
    "types": frozenset(["CodeType", "FunctionType", "CellType", "MethodType", "ModuleType"]),
    "builtins": frozenset(["type"]),
}
"""What only such code needs."""

_EXCLUDED = (
    "joblib", "numpy.f2py", "numpy.testing", "numpy.distutils", "numpy.ctypeslib", "numpy.lib", "scipy.io",
    "scipy._lib", "scipy.datasets", "pandas.io", "pandas.util", "pandas.core.computation", "pandas.testing",
    "pandas._testing", "sklearn.datasets", "sklearn.externals", "sklearn.utils._testing", "xgboost.spark",
    "xgboost.dask", "xgboost.testing", "xgboost.collective", "lightgbm.dask", "statsmodels.datasets",
    "statsmodels.iolib",
)  # fmt: skip
"""Their parts that read, write, compile or run: no model holds anything of them but what is listed."""

_PLAIN: Mapping[str, frozenset[str]] = {
    "builtins": frozenset([
        "object", "set", "frozenset", "bytearray", "bytes", "complex", "slice", "range", "int", "float", "str", "bool",
        "list", "dict", "tuple", "Ellipsis", "NotImplemented", "abs", "len", "max", "min", "round", "sum",
    ]),
    "collections": frozenset(["OrderedDict", "defaultdict", "deque", "Counter"]),
    "copyreg": frozenset(["_reconstructor", "__newobj__"]),
    "datetime": frozenset(["date", "datetime", "time", "timedelta", "timezone"]),
    "decimal": frozenset(["Decimal"]), "fractions": frozenset(["Fraction"]), "uuid": frozenset(["UUID"]),
    "_codecs": frozenset(["encode"]), "functools": frozenset(["partial"]), "re": frozenset(["_compile"]),
    "types": frozenset(["SimpleNamespace"]), "math": frozenset(["exp", "log", "log10", "log1p", "log2", "sqrt"]),
    "joblib.numpy_pickle": frozenset(["NumpyArrayWrapper"]),
    "sklearn.externals.joblib.numpy_pickle": frozenset(["NumpyArrayWrapper"]),
}  # fmt: skip
"""Types and functions that can do nothing but hold or make data."""

_NUMPY_TYPES = (
    "dtype ndarray bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 intc uintc longlong ulonglong float16 "
    "float32 float64 longdouble complex64 complex128 str_ bytes_ object_ void datetime64 timedelta64 matrix recarray "
    "float_ int_ generic number floating integer"
)
_UFUNCS = (
    "abs absolute cbrt ceil clip cos cosh exp exp2 expm1 fabs floor isnan log log10 log1p log2 logical_not nan_to_num "
    "negative reciprocal rint round sign sin sinh sqrt square tan tanh trunc maximum minimum add subtract multiply "
    "divide true_divide power mean median std var sum ravel asarray array"
)
_SCIPY_SPARSE = r"(bsr|coo|csc|csr|dia|dok|lil)_(matrix|array)"
_FUNCTIONS: tuple[tuple[str, str], ...] = (
    (r"numpy", f"{_NUMPY_TYPES} {_UFUNCS}".replace(" ", "|")),
    (r"numpy\.(core|_core)\.multiarray", "_reconstruct|scalar"),
    (r"numpy\.(core|_core)\.numeric", "_frombuffer"),
    (r"numpy\.(core|_core)\._multiarray_umath", _UFUNCS.replace(" ", "|")),
    (r"numpy\.(core|_core)\.(fromnumeric|_methods|umath)", _UFUNCS.replace(" ", "|")),
    (r"numpy\.dtypes", r"\w+DType"),
    (r"numpy\.random\._pickle", "__(randomstate|generator|bit_generator)_ctor"),
    (r"numpy\.ma\.core", "_mareconstruct"),
    (r"scipy\.sparse(\._?\w+)?", _SCIPY_SPARSE),
    (r"scipy\.stats(\._\w+)?", r"\w+_(gen|frozen)"),
    (r"scipy\.special(\._ufuncs)?", "expit|logit|log1p|expm1|boxcox|inv_boxcox"),
    (r"scipy\.interpolate\.\w+", "interp1d"),
    (r"pandas\.core\.indexes\.base", "_new_Index"),
    (r"pandas\.core\.indexes\.datetimes", "_new_DatetimeIndex"),
    (r"pandas\.core\.(arrays|dtypes)\.\w+", r"\w*[A-Z]\w*"),
    (r"sklearn\.(feature_selection|metrics)(\.\w+)*", r"[a-z]\w+"),
    (r"sklearn\.preprocessing\._function_transformer", "_identity"),
    (r"sklearn\.(neighbors|metrics)\.\w+", "newObj"),
    (r"(sklearn|scipy|pandas|numpy|catboost|lightgbm|statsmodels)(\.\w+)*", r"_?_(pyx_)?unpickle_\w+"),
)
"""Of known packages, by patterns of module and name: lower-case classes, and functions that make objects anew."""

DANGEROUS: Mapping[str, str] = {
    **dict.fromkeys(["os", "posix", "nt", "subprocess", "_posixsubprocess", "pty", "commands", "popen2", "platform"],
                    "runs commands and changes files"),
    **dict.fromkeys(["builtins", "code", "codeop", "runpy", "timeit", "cProfile", "profile", "pdb", "bdb", "doctest",
                     "trace", "pydoc"], "runs code"),
    **dict.fromkeys(["importlib", "imp", "pkgutil", "zipimport", "sys", "ctypes", "_ctypes", "cffi", "pip",
                     "ensurepip", "venv", "setuptools", "distutils"], "loads code"),
    **dict.fromkeys(["pickle", "_pickle", "cPickle", "marshal", "shelve", "copyreg", "types"],
                    "reads further pickles or makes functions"),
    **dict.fromkeys(["shutil", "io", "_io", "pathlib", "tempfile", "glob", "fileinput", "zipfile", "tarfile",
                     "linecache"], "reads and changes files"),
    **dict.fromkeys(["socket", "_socket", "http", "urllib", "urllib2", "requests", "smtplib", "ftplib", "ssl",
                     "asyncio", "webbrowser", "xmlrpc"], "reaches the network"),
    **dict.fromkeys(["operator", "_operator", "functools", "itertools", "inspect", "gc", "atexit", "signal",
                     "threading", "_thread", "multiprocessing", "concurrent"], "calls what others name"),
}  # fmt: skip
"""What naming something of a standard module, that is not plain data, is good for."""

_CLASS = re.compile(r"_?[A-Z]\w*")
_MEMBER = re.compile(r"[A-Z]\w*\.[A-Za-z]\w*")


def objection(module: str, name: str) -> str | None:
    """Why a model's pickle may not name this; None where it may, which is no proof that it is harmless."""
    package = module.partition(".")[0]
    if name in _PLAIN.get(module, ()) or is_code(module, name):
        return None
    if package in DANGEROUS:
        return DANGEROUS[package]
    if module == "__main__":
        return "was defined in the script that trained the model, and is not in the file"
    if package not in LIBRARIES:
        return "lies outside the known data-science packages"
    if any(re.fullmatch(where, module) and re.fullmatch(what, name) for where, what in _FUNCTIONS):
        return None
    if any(module == part or module.startswith(f"{part}.") for part in _EXCLUDED):
        return f"is of a part of {package} that reads, compiles or runs what it is given"
    if _CLASS.fullmatch(name) or _MEMBER.fullmatch(name):
        return None
    return f"is a function of {package} that no model is known to need"


def is_code(module: str, name: str) -> bool:
    """Whether it is there to make functions or classes that the pickle brings along."""
    return module.partition(".")[0] in CARRIERS or name in CODE.get(module, ())


def may_import(module: str) -> bool:
    """Whether code in a pickle may take a whole module."""
    package = module.partition(".")[0]
    return package in LIBRARIES or package in {"math", "datetime", "decimal", "collections", "re", "json", "typing"}
