package main

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name, podCIDR, address string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: podCIDR},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}}}
}

func TestPeers(t *testing.T) {
	got := peers([]*corev1.Node{
		node("a", "10.44.0.0/24", "172.30.1.2"),
		node("b", "10.44.1.0/24", "172.30.1.3"),
		node("new", "", "172.30.1.4"), // no pod range yet
	}, "a")
	if len(got) != 1 || got[netip.MustParsePrefix("10.44.1.0/24")] != netip.MustParseAddr("172.30.1.3") {
		t.Errorf("routes of node a: %v", got)
	}
}

func TestCNIConfig(t *testing.T) {
	got, err := cniConfig("10.44.1.0/24", "/run/netpold.sock", 1400)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"subnet": "10.44.1.0/24"`, `"socket": "/run/netpold.sock"`, `"mtu": 1400`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
