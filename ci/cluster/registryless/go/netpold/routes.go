package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
)

// ownRoutes marks the routes of this program, so that it finds the ones that are no longer wanted.
const ownRoutes netlink.RouteProtocol = 120

// peers gives the gateway (the node's address) for the pod range of every other node.
func peers(nodes []*corev1.Node, self string) map[netip.Prefix]netip.Addr {
	wanted := map[netip.Prefix]netip.Addr{}
	for _, n := range nodes {
		if n.Name == self {
			continue
		}
		pods, err := netip.ParsePrefix(n.Spec.PodCIDR)
		if err != nil || !pods.Addr().Is4() {
			continue // the range is not assigned yet
		}
		for _, a := range n.Status.Addresses {
			if a.Type != corev1.NodeInternalIP {
				continue
			}
			if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() {
				wanted[pods.Masked()] = ip
			}
		}
	}
	return wanted
}

// route makes this node's routes to the pods of other nodes as wanted, and removes its other routes.
func route(wanted map[netip.Prefix]netip.Addr) error {
	filter := &netlink.Route{Protocol: ownRoutes}
	present, err := netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range present {
		if r.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		if _, keep := wanted[netip.PrefixFrom(ip, bits)]; ok && keep {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil {
			return fmt.Errorf("delete the route to %s: %w", r.Dst, err)
		}
	}
	for pods, node := range wanted {
		dst := &net.IPNet{IP: pods.Addr().AsSlice(), Mask: net.CIDRMask(pods.Bits(), 32)}
		if err := netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: node.AsSlice(), Protocol: ownRoutes}); err != nil {
			return fmt.Errorf("route %s by %s: %w", pods, node, err)
		}
	}
	return nil
}

// masquerade gives packets that leave the cluster the node's address.
func masquerade(nft, podCIDR string) error {
	const table = "ip house_nat"
	rule := fmt.Sprintf("ip saddr %s ip daddr != %s masquerade", podCIDR, podCIDR)
	text := fmt.Sprintf("table %s\ndelete table %s\ntable %s {\n  chain out {\n    type nat hook postrouting priority 100\n    %s\n  }\n}\n", table, table, table, rule)
	cmd := exec.Command(nft, "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// cniConfig is the CNI configuration of a node: a routed pair of interfaces for each pod, then this program's plugin,
// without which no pod starts, then ports that pods take on the node.
func cniConfig(podCIDR, socket string, mtu int) ([]byte, error) {
	type object = map[string]any
	return json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "house",
		"plugins": []object{
			{"type": "ptp", "ipMasq": false, "mtu": mtu, "ipam": object{
				"type":    "host-local",
				"dataDir": "/run/cni-ipam",
				"ranges":  [][]object{{{"subnet": podCIDR}}},
				"routes":  []object{{"dst": "0.0.0.0/0"}},
			}},
			{"type": "house-netpol", "socket": socket},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
}

// writeCNI writes the configuration unless the file has it already. The node is Ready for pods from then on.
func writeCNI(file string, content []byte) error {
	if old, err := os.ReadFile(file); err == nil && string(old) == string(content) {
		return nil
	}
	partial := filepath.Join(filepath.Dir(file), "."+filepath.Base(file))
	if err := os.WriteFile(partial, content, 0o644); err != nil {
		return err
	}
	return os.Rename(partial, file)
}

// mtu is the largest packet of the interface that has the default route.
func mtu() int {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 1500
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return 1500
}
