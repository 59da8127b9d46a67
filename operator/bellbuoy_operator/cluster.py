"""The API server, as the rest of the operator sees it: plain dicts by path, over `kubernetes.aio`'s client.

One `Cluster` is one connection pool with one identity, from a kubeconfig or from the pod's service account. Objects are
applied on the server's side, as field manager `bellbuoy`, so that fields which others set are left alone. What the API
server refuses is a `ClusterError` that names the object and its words.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import kopf
import yaml
from kubernetes.aio import client, config

from bellbuoy.errors import CannotError

FIELD_MANAGER = "bellbuoy"
# A request that is not a watch has this long.
REQUEST_SECONDS = 30.0
# A service account's token is read again this often: the kubelet renews it well before it ends.
TOKEN_SECONDS = timedelta(minutes=5)
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

Object = dict[str, Any]


class ClusterError(CannotError):
    """The API server refused, or cannot be reached. `status` is HTTP's, 0 when there was no answer."""

    def __init__(self, text: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(text)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Kind:
    """A kind of objects and where the API server keeps them."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of one object, or of all of the namespace, or of all there are."""
        base = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        if self.namespaced and namespace:
            base += f"/namespaces/{quote(namespace)}"
        return "/".join([base, self.plural, *(quote(part, safe="") for part in (name, subresource) if part)])


PODS = Kind("v1", "Pod", "pods")
NODES = Kind("v1", "Node", "nodes", namespaced=False)
NAMESPACES = Kind("v1", "Namespace", "namespaces", namespaced=False)
SECRETS = Kind("v1", "Secret", "secrets")
CONFIG_MAPS = Kind("v1", "ConfigMap", "configmaps")
SERVICES = Kind("v1", "Service", "services")
SERVICE_ACCOUNTS = Kind("v1", "ServiceAccount", "serviceaccounts")
VOLUME_CLAIMS = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
STATEFUL_SETS = Kind("apps/v1", "StatefulSet", "statefulsets")
DAEMON_SETS = Kind("apps/v1", "DaemonSet", "daemonsets")
DEPLOYMENTS = Kind("apps/v1", "Deployment", "deployments")
CLUSTER_ROLE_BINDINGS = Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", False)
LEASES = Kind("coordination.k8s.io/v1", "Lease", "leases")
TOKEN_REVIEWS = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews", False)
ACCESS_REVIEWS = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", False)


class Cluster:
    """A connection to one API server. Close it."""

    def __init__(self, configuration: Any) -> None:
        configuration.client_side_validation = False
        self._configuration = configuration
        self._client = client.ApiClient(configuration)

    @classmethod
    async def connect(cls, kubeconfig: Path | None) -> "Cluster":
        """From a kubeconfig, or from the service account of the pod that we are in. Raises ClusterError."""
        configuration = client.Configuration()
        try:
            if kubeconfig is None:
                config.load_incluster_config(client_configuration=configuration)
            else:
                await _load(kubeconfig, configuration)
            return cls(configuration)
        except (config.ConfigException, OSError, ValueError) as e:
            what = "find the API server" if kubeconfig is None else f"use the kubeconfig {kubeconfig}"
            cure = "run in a pod with a service account, or give --kubeconfig"
            if kubeconfig is not None:
                cure = f"see what kubectl --kubeconfig={kubeconfig} get nodes says"
            # The reader may quote an entry, and an entry may hold a token.
            reason = str(e).partition("/{")[0].rstrip(".")
            raise ClusterError(f"cannot {what}: {reason}; {cure}") from e

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    def for_kopf(self) -> kopf.ConnectionInfo:
        """The same connection, as kopf's login handler gives it. Asked again whenever a token was refused."""
        have = self._configuration
        if have.refresh_api_key_hook is not None:
            have.refresh_api_key_hook(have)
        scheme, _, token = (have.api_key.get("BearerToken") or "").partition(" ")
        return kopf.ConnectionInfo(
            server=have.host,
            ca_path=have.ssl_ca_cert,
            ca_data=have.ca_cert_data,
            insecure=not have.verify_ssl,
            certificate_path=have.cert_file,
            private_key_path=have.key_file,
            scheme=scheme.capitalize() if token else None,
            token=token or None,
            expiration=datetime.now(UTC) + TOKEN_SECONDS if token and have.refresh_api_key_hook else None,
        )

    async def get(self, kind: Kind, *, namespace: str = "", name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return await self._json("GET", kind.path(namespace, name))
        except ClusterError as e:
            if e.status == 404:
                return None
            raise

    async def list_page(self, kind: Kind, params: Mapping[str, str]) -> Object:
        """One page of a list, as the API server gives it."""
        return await self._json("GET", kind.path(), params=params)

    async def create(self, kind: Kind, body: Mapping[str, Any], *, namespace: str = "") -> Object:
        """Create an object; 409 is a ClusterError."""
        return await self._json("POST", kind.path(namespace), body=body)

    async def replace(self, kind: Kind, body: Mapping[str, Any]) -> Object:
        """Replace an object; its resourceVersion makes it fail with 409 when someone was faster."""
        metadata = body["metadata"]
        return await self._json("PUT", kind.path(metadata.get("namespace", ""), metadata["name"]), body=body)

    async def apply(self, kind: Kind, body: Mapping[str, Any]) -> Object:
        """Make the object's fields as the body says, and create it if need be."""
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"])
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._json("PATCH", path, params=params, body=body, content_type=APPLY)

    async def merge(
        self, kind: Kind, body: Mapping[str, Any], *, namespace: str, name: str, subresource: str = ""
    ) -> Object:
        """Merge the body into an object, or into its status."""
        path = kind.path(namespace, name, subresource)
        return await self._json("PATCH", path, params={"fieldManager": FIELD_MANAGER}, body=body, content_type=MERGE)

    async def delete(self, kind: Kind, *, namespace: str = "", name: str) -> None:
        """Delete an object, and in the background what it owns. None there is fine."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        try:
            await self._json("DELETE", kind.path(namespace, name), body=body)
        except ClusterError as e:
            if e.status != 404:
                raise

    @asynccontextmanager
    async def watch(
        self, kind: Kind, params: Mapping[str, str], *, inactivity_seconds: float
    ) -> AsyncIterator[AsyncIterator[Object]]:
        """The events of a watch, until the API server ends it or is silent for too long (a ClusterError)."""
        timeout = aiohttp.ClientTimeout(total=None, connect=REQUEST_SECONDS, sock_read=inactivity_seconds)
        path = kind.path()
        response = await self._request("GET", path, params={**params, "watch": "true"}, timeout=timeout)
        try:
            yield _events(response, path)
        finally:
            response.close()

    async def _json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        response = await self._request(
            method, path, params=params, body=body, content_type=content_type, timeout=timeout
        )
        try:
            answer: Object = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as e:
            raise ClusterError(f"cannot read the answer to {method} {path}: {e or type(e).__name__}") from e
        finally:
            response.release()
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - it is aiohttp's, not a time to wait
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        url = path + ("?" + urlencode(params) if params else "")
        try:
            args = await self._client.param_serialize(
                method, url, None, None, headers, body, auth_settings=["BearerToken"]
            )
            rest = await self._client.call_api(*args, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise ClusterError(
                f"cannot {method} {path}: {e or type(e).__name__}; see whether the API server runs"
            ) from e
        response: aiohttp.ClientResponse = rest.response
        if response.status >= 400:
            raise await _refusal(method, path, response)
        return response


async def _load(kubeconfig: Path, configuration: Any) -> None:
    """Raises ConfigException, OSError or ValueError."""
    await asyncio.to_thread(_check, kubeconfig)
    try:
        await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    except (TypeError, AttributeError, KeyError) as e:
        # What the reader says of a field that is of another form than it should be.
        raise ValueError(f"a field of it is of a wrong form ({e})") from e


def _check(kubeconfig: Path) -> None:
    """Raises ValueError for what its reader would trip over: a file that is missing, it even takes for an empty one."""
    try:
        content = yaml.safe_load(kubeconfig.read_text())
    except OSError as e:
        raise ValueError((e.strerror or type(e).__name__).lower()) from e
    except yaml.YAMLError as e:
        # Without the line that it quotes: there may be a token in it.
        mark = getattr(e, "problem_mark", None)
        raise ValueError("it is no YAML" + (f", see line {mark.line + 1}" if mark else "")) from e
    if not isinstance(content, dict):
        raise ValueError("it is no mapping, as a kubeconfig is")  # noqa: TRY004 - it is a mistake in a file


async def _refusal(method: str, path: str, response: aiohttp.ClientResponse) -> ClusterError:
    text, reason = (await response.read()).decode(errors="replace"), ""
    try:
        answer = json.loads(text)
        text, reason = answer.get("message", text), answer.get("reason", "")
    except ValueError:
        text = text[:512]
    cure = "; see whether deploy/base's ClusterRole is applied" if response.status == 403 else ""
    return ClusterError(
        f"cannot {method} {path}: HTTP {response.status}: {text}{cure}", status=response.status, reason=reason
    )


async def _events(response: aiohttp.ClientResponse, path: str) -> AsyncIterator[Object]:
    buffer = b""
    try:
        # Lines may be longer than what readline takes: a pod's object has no small bound.
        async for chunk in response.content.iter_any():
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                if line:
                    yield json.loads(line)
    except (aiohttp.ClientError, TimeoutError, OSError) as e:
        raise ClusterError(f"cannot watch {path}: {e or type(e).__name__}") from e
    except asyncio.IncompleteReadError as e:
        raise ClusterError(f"cannot watch {path}: the stream ended within an event") from e
