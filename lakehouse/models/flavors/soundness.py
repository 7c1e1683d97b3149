"""Trees of a loaded scikit-learn model, checked before they are used: their C code follows indices without looking.

A forged file can hold children or features that lie outside the arrays, or nodes that lead back to themselves. Children
always come after their parent in scikit-learn's arrays, so that what keeps to this ends.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lakehouse.errors import ModelRefused


def require_sound(model: Any) -> None:
    """Raise ModelRefused for a model that holds a tree which would be read out of bounds, or in an unknown place."""
    try:
        _walk(model)
    except ModelRefused:
        raise
    except Exception as error:
        raise ModelRefused(f"the model's file is forged or damaged: {type(error).__name__}: {error}") from error


def _walk(model: Any) -> None:
    seen, parts = dict[int, Any](), [model]
    while parts:
        part = parts.pop()
        if isinstance(part, (str, bytes, int, float, type)) or part is None or id(part) in seen:
            continue
        seen[id(part)] = part  # kept, so that no other gets its id
        parts.extend(_parts_of(part))


def _parts_of(part: Any) -> Iterator[Any]:
    """What an object holds, but for the trees in it, which are checked here with what they are given."""
    from sklearn.base import BaseEstimator
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
    from sklearn.tree._tree import Tree

    if isinstance(part, (Tree, TreePredictor)):
        _refuse(part, "it is not where an estimator of scikit-learn's keeps one")
    if type(part).__name__ in ("KDTree", "BallTree"):
        _require_neighbors(part)
        return
    if isinstance(part, np.ndarray):
        yield from part.flat if part.dtype == object else ()
    elif isinstance(part, Mapping):
        yield from part.values()
    elif isinstance(part, (list, tuple, set, frozenset)):
        yield from part
    else:
        attributes = getattr(part, "__dict__", {})
        if isinstance(part, BaseEstimator):
            hidden = next((name for name in attributes if callable(getattr(type(part), str(name), None))), None)
            if hidden is not None:
                _refuse(part, f"its attribute {hidden!r} hides a method")
            _check(part)
        checked = ("tree_", "_predictors")
        yield from (value for name, value in attributes.items() if name not in checked or _is_strange(part, name))


def _is_strange(holder: Any, name: str) -> bool:
    """Whether an attribute of this name is not one whose trees were checked with its holder."""
    from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
    from sklearn.tree import BaseDecisionTree

    return not isinstance(holder, BaseDecisionTree if name == "tree_" else BaseHistGradientBoosting)


def _check(estimator: Any) -> None:
    """Check an estimator that hands its rows to trees. Ensembles look at the rows' width once, for all of them."""
    from sklearn.ensemble import IsolationForest
    from sklearn.ensemble._forest import BaseForest
    from sklearn.ensemble._gb import BaseGradientBoosting
    from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
    from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
    from sklearn.tree import BaseDecisionTree

    held = vars(estimator)
    if isinstance(estimator, BaseDecisionTree) and "tree_" in held:
        _require_tree(estimator, _width(estimator))
    elif isinstance(estimator, (BaseForest, IsolationForest, BaseGradientBoosting)) and "estimators_" in held:
        width = _width(estimator)
        widths = [width] * np.size(estimator.estimators_)
        if isinstance(estimator, IsolationForest):
            widths = [min(width, len(features)) for features in estimator.estimators_features_]
        for member, given in zip(np.ravel(estimator.estimators_), widths, strict=True):
            if not isinstance(member, BaseDecisionTree):
                _refuse(estimator, f"it holds a {type(member).__name__} as a tree")
            _require_tree(member, given)
        if isinstance(estimator, BaseGradientBoosting):
            _require_room(estimator, width)
    elif isinstance(estimator, BaseHistGradientBoosting) and "_predictors" in held:
        _require_predictors(estimator, _width(estimator))
    elif isinstance(estimator, (KNeighborsClassifier, RadiusNeighborsClassifier)) and "_y" in held:
        classes = held["classes_"] if isinstance(held["classes_"], list) else [held["classes_"]]
        labels = np.asarray(held["_y"]).reshape(-1, len(classes))
        if labels.size and not all(
            column.min() >= 0 and column.max() < len(known)
            for column, known in zip(labels.T, classes, strict=True)
        ):  # fmt: skip
            _refuse(estimator, "its labels are none of its classes")


def _width(estimator: Any) -> int:
    """How many features it takes; without the number scikit-learn would take any."""
    width = vars(estimator).get("n_features_in_")
    if not isinstance(width, (int, np.integer)) or isinstance(width, bool) or width < 1:
        _refuse(estimator, f"its number of features is {width!r}")
    return int(width)


def _require_tree(estimator: Any, width: int) -> None:
    from sklearn.tree._tree import Tree

    tree = vars(estimator).get("tree_")
    if not isinstance(tree, Tree):
        _refuse(estimator, f"it holds a {type(tree).__name__} as its tree")
    nodes = tree.node_count
    if not 1 <= nodes <= tree.capacity or not 0 <= tree.max_depth <= nodes:
        _refuse(estimator, "its tree has no nodes, or says that it has more than there are")
    if tree.n_features > width or tree.n_outputs < 1 or tree.max_n_classes < 1:
        _refuse(estimator, f"its tree is for {tree.n_features} features, it is given {width}")
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    inner = left != -1
    _require_indices(estimator, left, right, feature, inner, min(width, tree.n_features))


def _require_indices(holder: Any, left: Any, right: Any, feature: Any, inner: Any, width: int) -> None:
    """Children after their parent and within the array, features within the row, for the nodes that have them."""
    place = np.flatnonzero(inner)
    for children in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        if ((children <= place) | (children >= len(inner))).any():
            _refuse(holder, "a node of its tree leads out of the tree, or back")
    if ((feature[inner] < 0) | (feature[inner] >= width)).any():
        _refuse(holder, f"a node of its tree asks for a feature that is none of the {width}")


def _require_room(boosting: Any, width: int) -> None:
    """Gradient boosting adds each tree's answer to a column that its first guess must have."""
    columns = boosting._raw_predict_init(np.zeros((1, width), np.float32)).shape[1]
    if boosting.estimators_.ndim != 2 or boosting.estimators_.shape[1] != columns:
        _refuse(boosting, f"it has trees for {boosting.estimators_.shape[1:]} outputs and {columns} to add them to")


def _require_predictors(boosting: Any, width: int) -> None:
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    before = vars(boosting).get("_preprocessor")
    if before is not None and not any(
        isinstance(getattr(step[1], "func", None), functools.partial) for step in before.transformers_
    ):  # scikit-learn's own has one, for which the job must trust more than our types
        _refuse(boosting, "what it does to its features before is not scikit-learn's own")
    categories = np.asarray(boosting._bin_mapper.is_categorical_)
    for predictor in (p for stage in boosting._predictors for p in stage):
        if not isinstance(predictor, TreePredictor):
            _refuse(boosting, f"it holds a {type(predictor).__name__} as a tree")
        nodes = predictor.nodes
        if nodes.ndim != 1 or not len(nodes) or categories.shape != (width,):
            _refuse(boosting, "its tree has no nodes, or its bins are of other features")
        inner = nodes["is_leaf"] == 0
        _require_indices(boosting, nodes["left"], nodes["right"], nodes["feature_idx"], inner, width)
        choice = nodes[inner & (nodes["is_categorical"] != 0)]
        sets = min(len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets))
        shape = predictor.raw_left_cat_bitsets.shape[1:]
        if len(choice) and (
            not categories[choice["feature_idx"]].all() or choice["bitset_idx"].max() >= sets or shape != (8,)
        ):
            _refuse(boosting, "a node of its tree asks for categories that are not there")


def _require_neighbors(tree: Any) -> None:
    """A KDTree or BallTree: a binary tree of ranges of rows."""
    data, rows, nodes, bounds, *_, metric, weights = tree.__getstate__()
    count, width = data.shape
    weighted = weights is not None and len(weights) != count
    if rows.shape != (count,) or weighted or (count and (rows.min() < 0 or rows.max() >= count)):
        _refuse(tree, "its index names rows that are not there")
    sides = 2 if type(tree).__name__ == "KDTree" else 1
    if not len(nodes) or bounds.shape != (sides, len(nodes), width):
        _refuse(tree, "its bounds are not those of its nodes")
    start, end, inner = nodes["idx_start"], nodes["idx_end"], nodes["is_leaf"] == 0
    if ((start < 0) | (start > end) | (end > count)).any() or (2 * np.flatnonzero(inner) + 2 >= len(nodes)).any():
        _refuse(tree, "a node of it leads out of the tree")
    size = np.size(metric.__getstate__()[1])
    kind = type(metric).__name__
    if (kind == "HaversineDistance64" and width != 2) or (kind == "MinkowskiDistance64" and size not in (0, width)):
        _refuse(tree, f"its distance {kind} is not for {width} features")


def _refuse(holder: Any, why: str) -> None:
    raise ModelRefused(f"the model's file is forged or damaged: {type(holder).__name__}: {why}")
