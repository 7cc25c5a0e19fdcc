// Command netpold is the pod network of a node: it writes the CNI configuration,
// routes to the pods of other nodes, masquerades what leaves the cluster, and
// enforces NetworkPolicy (networking.k8s.io/v1). It renders all policies into one
// nftables table and replaces that table in one transaction whenever pods,
// namespaces or policies change.
//
// Under the name house-netpol it is also a chained CNI plugin: it reports the
// address of a new pod to the daemon and waits until the table has it. So a pod's
// policies hold before its first program starts.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

func main() {
	if filepath.Base(os.Args[0]) == "house-netpol" {
		os.Exit(cniMain())
	}
	klog.InitFlags(nil)
	socket := flag.String("socket", "/run/netpold/netpold.sock", "where the CNI plugin reports new pods; the same path on the node")
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig (default: the pod's service account)")
	podCIDR := flag.String("pod-cidr", "", "range of all pods of the cluster; packets to other addresses are masqueraded")
	node := flag.String("node", os.Getenv("NODE"), "name of this node (default: $NODE)")
	cni := flag.String("cni-config", "/etc/cni/net.d/10-house.conflist", "where the CNI configuration of this node is written")
	nft := flag.String("nft", "nft", "the nft program")
	health := flag.String("health-address", "127.0.0.1:10260", "where /healthz is served")
	settle := flag.Duration("settle", 50*time.Millisecond, "how long to gather changes before the table is replaced")
	flag.Parse()
	if err := masquerade(*nft, *podCIDR); err != nil {
		klog.ErrorS(err, "no masquerading")
		os.Exit(1)
	}
	if err := run(*kubeconfig, *nft, *health, *socket, *settle, *node, *cni); err != nil {
		klog.ErrorS(err, "netpold stopped")
		os.Exit(1)
	}
}

func run(kubeconfig, nft, health, socket string, settle time.Duration, self, cni string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	f := informers.NewSharedInformerFactory(client, 0)
	pods, nss, nps := f.Core().V1().Pods(), f.Core().V1().Namespaces(), f.Networking().V1().NetworkPolicies()
	nodes := f.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	h := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() }}
	for _, i := range []cache.SharedIndexInformer{pods.Informer(), nss.Informer(), nps.Informer(), nodes.Informer()} {
		if _, err := i.AddEventHandler(h); err != nil {
			return err
		}
	}
	f.Start(ctx.Done())
	for t, ok := range f.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("no first list of %v", t)
		}
	}
	var applied atomic.Bool
	go func() {
		mux := http.NewServeMux()
		mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
			if !applied.Load() {
				http.Error(w, "table not applied", http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintln(w, "ok")
		})
		klog.ErrorS(http.ListenAndServe(health, mux), "health server stopped")
	}()
	news := newPending()
	if err := news.serve(socket, poke, func(ns, name string) bool {
		_, err := pods.Lister().Pods(ns).Get(name)
		return err == nil
	}); err != nil {
		return err
	}
	last := ""
	poke()
	for {
		select {
		case <-ctx.Done():
			return nil // the table stays: policies hold while netpold restarts
		case <-changed:
		}
		if !news.urgent() {
			time.Sleep(settle)
		}
		select {
		case <-changed:
		default:
		}
		gen := news.generation()
		pl, err := pods.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		nl, err := nss.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		ql, err := nps.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		hosts, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		if err := route(peers(hosts, self)); err != nil {
			klog.ErrorS(err, "routes are not complete; will try again")
			time.AfterFunc(2*time.Second, poke)
		}
		text := Render(news.merge(pl), nl, ql)
		if text == last {
			news.applied(gen)
			if err := join(hosts, self, cni, socket); err != nil {
				return err
			}
			continue
		}
		cmd := exec.CommandContext(ctx, nft, "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			applied.Store(false)
			klog.ErrorS(err, "nft refused the table; will try again", "output", string(out))
			time.AfterFunc(2*time.Second, poke)
			continue
		}
		last = text
		applied.Store(true)
		news.applied(gen)
		klog.InfoS("Table replaced", "pods", len(pl), "policies", len(ql), "bytes", len(text))
		if err := join(hosts, self, cni, socket); err != nil {
			return err
		}
	}
}

// join writes this node's CNI configuration once its pod range is known and its first table holds.
func join(nodes []*corev1.Node, self, file, socket string) error {
	for _, n := range nodes {
		if n.Name != self || n.Spec.PodCIDR == "" {
			continue
		}
		content, err := cniConfig(n.Spec.PodCIDR, socket, mtu())
		if err != nil {
			return err
		}
		return writeCNI(file, content)
	}
	return nil
}
