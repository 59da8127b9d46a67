"""A real Kubernetes on this machine, without a container engine and without a registry: for development, demo, tests.

Each node is a set of Linux namespaces in which containerd, kubelet and kube-proxy run; the first node also runs etcd,
API server, controller manager and scheduler. All of a cluster's names and addresses follow from its number, so that
several can run side by side; all of its files lie in one folder; nothing is left after `down`.

The modules, lowest first: `paths` and `shell` (where things lie, how programs are run), `machine` (what must be here),
`binaries` (built from the Go modules in `modules/`), `addresses`, `network` and `cgroups` (what the kernel gives a
cluster), `certificates`, `components` (how each program is started), `node` (the first process of a node), `archive`
and `images` (container images without an engine), `processes`, `cluster` (up and down), `cli`.
docs/local-cluster.md is the manual.
"""
