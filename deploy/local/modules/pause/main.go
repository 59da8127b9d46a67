// The process that holds a pod's namespaces open: it waits to be told to stop. The image that Kubernetes uses for it
// lies in a registry, which the local cluster does without.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
