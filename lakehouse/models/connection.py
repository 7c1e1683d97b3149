"""An MLflow client for a job, and what its errors and those of the stores behind it mean for a run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.errors import ConfigError, LakehouseError, Unavailable, nearest
from lakehouse.models.loading import QUIET, environment
from lakehouse.models.patience import Patience, wait_for

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig

_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": "10",
}
"""MLflow's own patience with one request: by default it is minutes."""
_Answer = TypeVar("_Answer")
_KEYS = "model.tracking_uri and model.registry_uri"
_SET = "set model.tracking_uri, MLFLOW_TRACKING_URI or, for init, --tracking-uri"
_STORES = ("botocore.", "boto3.", "azure.", "google.", "requests.", "urllib3.", "sqlalchemy.")
_LOGINS = {
    "mlflow": "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "botocore": "AWS's own settings, such as AWS_PROFILE",
    "azure": "Azure's own settings, such as AZURE_STORAGE_CONNECTION_STRING",
    "google": "Google's own settings, such as GOOGLE_APPLICATION_CREDENTIALS",
    "databricks": "Databricks' own settings, such as DATABRICKS_HOST and DATABRICKS_TOKEN",
}
"""Where the credentials come from, by the package that asks for them."""
_SAID = {
    401: r"\bExpiredToken\b|token has expired|\bInvalidAccessKeyId\b|\bSignatureDoesNotMatch\b|\bInvalidToken\b",
    403: r"\bAccessDenied\b",
    404: r"\bNoSuch(?:Key|Bucket)\b",
}
"""How S3 says it, by the HTTP status that it means."""
_NO_ADDRESS = re.compile(
    r"Could not find a registered artifact repository|Not a proper runs:/ URI|must be a valid http or https URI"
    r"|Setting the tracking URI to a Unity Catalog backend|file is not a database|int too large to convert"
)
"""What MLflow and its stores say of an address or a number that can't be one, as of faults of their own."""
_NO_LOGIN = re.compile(r"Reading Databricks credential configuration failed|Failed to get credentials for DBFS")
_LONGEST = 300
"""Characters of a message of MLflow's: of a longer one the first sentences are shown."""


def ask(
    config: ModelConfig, patience: Patience | None, question: Callable[[Any], _Answer], folder: Path | None = None,
    who: str = "",
) -> _Answer:  # fmt: skip
    """What `question` answers when it is given an MLflow client for the job's tracking server and registry.

    MLflow's settings are set only until it ends, and where nobody has set them. Errors of MLflow and of the stores
    behind it become ConfigError or Unavailable, as does one that has not answered within the patience (None: one of
    its own; `folder`: see `wait_for`). `who`: what is asked, if not MLflow's server.
    """
    with (
        environment({k: v for k, v in (_SETTINGS | QUIET).items() if k not in os.environ}),
        translated_errors("MLflow"),
    ):
        import mlflow

        tracking, registry = addresses(config)
        for uri in (tracking, registry):
            _require_database(uri)

        def answer() -> _Answer:
            with translated_errors(f"MLflow at {without_secrets(tracking)}"):
                client = mlflow.MlflowClient(tracking_uri=tracking, registry_uri=registry)
            return question(client)

        if _is_here(tracking) and _is_here(registry) and folder is None:
            return answer()
        who = who or f"MLflow at {tracking if _is_here(registry) else registry}"
        return wait_for(answer, patience or Patience(), without_secrets(who), folder)


def addresses(config: ModelConfig) -> tuple[str, str]:
    """Where the job's tracking server and its registry are, as MLflow itself finds what the job doesn't say.

    With Databricks' tracking server goes its Unity Catalog.
    """
    import mlflow

    tracking = config.tracking_uri or mlflow.get_tracking_uri()
    beside = re.sub(r"^databricks(?=$|://)", "databricks-uc", tracking)
    return tracking, config.registry_uri or (beside if config.tracking_uri else mlflow.get_registry_uri())


def _is_here(uri: str) -> bool:
    """Whether an address is a file or folder of this machine, which needs no waiting for."""
    return uri.startswith(("sqlite:", "file:")) or ("://" not in uri and not uri.startswith(("databricks", "uc")))


def _require_database(uri: str) -> None:
    """Raise ConfigError for a database that isn't there: MLflow would make an empty one."""
    file = uri.removeprefix("sqlite:///")
    if uri.rstrip("/") == "sqlite:":
        raise ConfigError(f"MLflow: {uri} names no database: write sqlite:///<file>; {_SET}")
    if uri.startswith("sqlite:///") and not Path(file).exists():
        near = nearest(Path(file).name, [found.name for found in Path(file).absolute().parent.glob("*.db")])
        near = f", {near}" if near.startswith("did") else ""
        raise ConfigError(f"MLflow: there is no database {file!r} ({uri}){near}; {_SET}")
    if "://" not in uri and Path(uri).is_file():
        raise ConfigError(f"MLflow: {uri} is a file: if it is MLflow's database write sqlite:///{uri}; {_SET}")


def without_secrets(text: str) -> str:
    """A text whose URIs are without the user and the password that they may hold."""
    return re.sub(r"//[^/\s]*@", "//", text)


@contextmanager
def translated_errors(what: str) -> Iterator[None]:
    """Errors of MLflow and of stores within become ours; what they don't explain stays as it is."""
    try:
        yield
    except LakehouseError:
        raise
    except Exception as error:
        ours = translate_error(error, what)
        if ours is None:
            raise
        raise ours from error


def translate_error(error: Exception, what: str) -> LakehouseError | None:
    """An error of MLflow or of an artifact store as ours, None for one that neither has raised.

    What a person must mend is a ConfigError: a login (401), a permission (403), what is not there (404), an address
    that is none. What may pass by itself is Unavailable: time-outs, refused connections, a server's own faults.
    """
    package = type(error).__module__.partition(".")[0]
    known = package == "mlflow" or type(error).__module__.startswith(_STORES) or isinstance(error, OSError)
    if isinstance(error, ImportError):
        return ConfigError(f"{what}: MLflow needs {error.name} for it: install it beside MLflow")
    if not known:
        return None
    said, status = first_line(error), status_of(error)
    if unknown := re.search(r"Could not find a registered artifact repository for: (\w+):", said):
        hint = nearest(unknown[1], ("models", "runs", "file", "s3", "gs", "wasbs", "abfss", "dbfs", "mlflow-artifacts"))
        return ConfigError(f"{what}: MLflow knows no addresses that begin with {unknown[1]}:, {hint}")
    if status == 401 or "Credentials" in type(error).__name__:
        return ConfigError(f"{what}: not logged in: {said}; set {_login_of(error)}")
    if status == 403 or isinstance(error, PermissionError):
        return ConfigError(f"{what}: no permission: {said}")
    if status == 404 or isinstance(error, FileNotFoundError):
        return ConfigError(f"{what}: not found: {said}")
    if status == 400 or "maintenance mode" in said:
        return ConfigError(f"{what}: {said}; see {_KEYS}")
    if isinstance(error, NotADirectoryError | IsADirectoryError):
        return ConfigError(f"{what}: {said}")
    if "timeout" in type(error).__name__.lower() or re.search("timed out|timeout exception|TimeoutError", said):
        return Unavailable(f"{what}: no answer in time: {said}")
    login = _login_of(error)
    return Unavailable(
        f"{what} can't be reached: {_cause(said)}; if it is up, see {_KEYS if login == _LOGINS['mlflow'] else login}"
    )


def _cause(said: str) -> str:
    """What a client's chain of failed attempts says in the end, such as `[Errno 111] Connection refused`."""
    reason = r"\[Errno -?\d+\] [^'\")]+|too many \d+ error responses"
    found = re.findall(reason, said) if "Max retries" in said else []
    return f"{said.partition(' failed with exception')[0]}: {found[-1].strip()}" if found else said


def _login_of(error: BaseException) -> str:
    """Where the credentials come from that somebody did not take: MLflow hands errors of its stores' clients on."""
    package = type(error).__module__.partition(".")[0]
    if _NO_LOGIN.search(str(error)):
        return _LOGINS["databricks"]
    if package in _LOGINS and package != "mlflow":
        return _LOGINS[package]
    if " when calling the " in str(error):
        return _LOGINS["botocore"]
    inner = error.__cause__ or error.__context__
    return _LOGINS["mlflow"] if inner is None else _login_of(inner)


def _status_in(text: str) -> int | None:
    """The HTTP status in what a store's client said of a file, of which MLflow keeps only the words."""
    for status, names in _SAID.items():
        if re.search(names, text):
            return status
    found = re.search(r"error occurred \((\d{3})\)|\b(\d{3}) (?:Client|Server) Error|^(\d{3}): ", text)
    return int(found[1] or found[2] or found[3]) if found else None


def _status_of_answer(error: BaseException) -> int | None:
    """The status of the answer that MLflow made an error of.

    It forgets it where the answer is JSON without one of its own codes, as whatever stands before a server may send to
    those who are not logged in; the answer itself is where the error was raised.
    """
    trace = error.__traceback__
    while trace is not None:
        status = getattr(trace.tb_frame.f_locals.get("response"), "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
        trace = trace.tb_next
    return None


def status_of(error: Exception) -> int | None:
    """The HTTP status that an error stands for, as far as it says one."""
    if _NO_LOGIN.search(str(error)):
        return 401
    if _NO_ADDRESS.search(str(error)):
        return 400
    vague = getattr(error, "error_code", None) == "INTERNAL_ERROR"
    if vague and (told := _status_of_answer(error) or _status_in(str(error))):
        return told
    if hasattr(error, "get_http_status_code"):
        invalid = type(error).__name__.startswith("Unsupported") or type(error).__name__ == "InvalidUrlException"
        return 400 if invalid else int(error.get_http_status_code())
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return found if isinstance(found, int) else None
    found = (
        getattr(error, "status_code", None) or getattr(response, "status_code", None) or getattr(error, "code", None)
    )
    return found if isinstance(found, int) else None


def first_line(error: BaseException) -> str:
    """The first line of a message, and the next where the first only announces it; no password is in it."""
    said = re.sub(r"\. Config: host=.*", "", str(error).strip())  # what Databricks' client adds of its settings
    lines = [line.strip(" #") for line in said.splitlines()] or [type(error).__name__]
    if lines[1:] and lines[1].startswith("File "):  # MLflow lists what went wrong with each
        return without_secrets(f"{lines[1]}: {lines[2] if lines[2:] else ''}")
    told = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
    if len(told) > _LONGEST and (end := re.search(r"\. ", told)):
        told = told[: end.start()]
    return without_secrets(told)
