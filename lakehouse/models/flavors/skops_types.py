"""Types of which ordinary models are made, beyond those that skops takes by itself, and why each can only hold data.

skops rebuilds what a file names: a node says a type and in which way it is made. An object is made without a call of
its class and given its attributes; other ways call the class with whatever the file holds. So each type stands here
with the only ways in which it may be made, and what is not listed is no plain data. Not listed on purpose: other
functions and what calls them (`functools.partial`, `operator.methodcaller`), bound methods, scorers, and classes whose
C code trusts indices that nothing here checks (sparse matrices, splines).
"""

from __future__ import annotations

from collections.abc import Mapping

_OBJECT = "ObjectNode"
"""Made without a call, then given attributes (`__setstate__`)."""

_PLAIN = "a Python object that keeps numbers, arrays and other such objects"
_SETTINGS = "settings of a fit, as numbers; not used for predictions"
_KERNEL = "a kernel: arithmetic on arrays, with numbers as its parameters"
_NUMERIC = "a function of two arrays that fitting calls; it does arithmetic only"
_METRIC = "a distance without weights of its own; its size is checked against the data (`soundness`)"
_BOOSTER = "the library's own format, read by its own reader, as for a model of that flavour"
_ESTIMATOR = "keeps settings and a booster"


def _each(prefix: str, names: str, reason: str, *ways: str) -> dict[str, tuple[tuple[str, ...], str]]:
    return {f"{prefix}.{name}": (ways or (_OBJECT,), reason) for name in names.split()}


TYPES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "numpy.dtype": (("DTypeNode",), "the type of an empty array"),
    "numpy.number": (("TypeNode",), "a class as a mark, which can't be called"),
    "builtins.object": (("TypeNode",), "a class as a mark; an instance of it holds nothing"),
    "collections.OrderedDict": (("TypeNode", "DictNode"), "a dictionary"),
    "sklearn.utils._bunch.Bunch": (("DictNode",), "a dictionary"),
    # trees: what their C code takes on trust is checked by `soundness`, before the model is used
    "sklearn.tree._tree.Tree": (("TreeNode",), "arrays of nodes; they are checked once they are loaded"),
    **_each("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor", "as Tree"),
    **_each("sklearn.neighbors._kd_tree", "KDTree", "as Tree"),
    **_each("sklearn.neighbors._ball_tree", "BallTree", "as Tree"),
    **_each(
        "sklearn.metrics._dist_metrics",
        "EuclideanDistance64 ManhattanDistance64 ChebyshevDistance64 MinkowskiDistance64 HaversineDistance64",
        _METRIC,
    ),
    **_each("sklearn._loss.loss", "HalfTweedieLoss HalfTweedieLossIdentity", _PLAIN),
    **_each("sklearn.calibration", "_CalibratedClassifier _SigmoidCalibration", _PLAIN),
    **_each("sklearn.multiclass", "_ConstantPredictor", _PLAIN),
    **_each("sklearn.gaussian_process._gpc", "_BinaryGaussianProcessClassifierLaplace", _PLAIN),
    **_each(
        "sklearn.compose._column_transformer", "make_column_selector", "chooses columns by name and type, for a fit"
    ),
    **_each(
        "sklearn.gaussian_process.kernels",
        "RBF Matern RationalQuadratic ExpSineSquared DotProduct WhiteKernel ConstantKernel PairwiseKernel "
        "Sum Product Exponentiation CompoundKernel",
        _KERNEL,
    ),
    **_each("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer SGDOptimizer", _SETTINGS),
    **_each("sklearn.model_selection._split", "KFold StratifiedKFold", _SETTINGS),
    **_each("sklearn.metrics._scorer", "_PassthroughScorer", "calls its estimator's `score`; not used for predictions"),
    **_each("sklearn.feature_selection._univariate_selection", "f_classif f_regression chi2", _NUMERIC, "FunctionNode"),
    **_each("lightgbm.basic", "Booster", _BOOSTER),
    **_each("lightgbm.sklearn", "LGBMModel LGBMClassifier LGBMRegressor LGBMRanker", _ESTIMATOR),
    **_each("xgboost.core", "Booster", _BOOSTER),
    **_each(
        "xgboost.sklearn",
        "XGBModel XGBClassifier XGBRegressor XGBRanker XGBRFClassifier XGBRFRegressor",
        _ESTIMATOR,
    ),
}
"""By name: the ways in which skops may make it, and the reason."""
