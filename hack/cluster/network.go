package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

const networkName = "aisle"

// enterNetwork puts the calling thread, which the caller has locked and never
// unlocks, into a new network namespace, linked to the machine's: what that
// thread starts lives there. The namespace has no name, so that nothing is left
// of it once the last process in it ends.
func enterNetwork(ctx context.Context) error {
	thread := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	machine, err := os.Open(thread)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer machine.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("a network namespace: %w", err)
	}
	for _, c := range []string{
		"ip link set lo up",
		// The other end appears in the machine's namespace.
		fmt.Sprintf("ip link add eth0 type veth peer name %s netns /proc/self/fd/3", hostLink),
		fmt.Sprintf("ip address add %s/30 dev eth0", nodeIP),
		"ip link set eth0 up",
		"ip route add default via " + hostIP,
	} {
		if err := command(ctx, machine, c); err != nil {
			return err
		}
	}
	for _, s := range []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "net/ipv4/conf/all/route_localnet"} {
		// A kernel without the bridge's filter has nothing to switch on.
		if err := os.WriteFile("/proc/sys/"+s, []byte("1"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("network: %w", err)
		}
	}
	return nil
}

// joinNetwork gives the machine's end an address, and routes to services and
// pods. They go with the link.
func joinNetwork(ctx context.Context) error {
	for _, c := range []string{
		fmt.Sprintf("ip address add %s/30 dev %s", hostIP, hostLink),
		fmt.Sprintf("ip link set %s up", hostLink),
		fmt.Sprintf("ip route replace %s via %s", serviceCIDR, nodeIP),
		fmt.Sprintf("ip route replace %s via %s", podCIDR, nodeIP),
	} {
		if err := command(ctx, nil, c); err != nil {
			return err
		}
	}
	return nil
}

// command runs words in the calling thread's namespace, with file as descriptor 3.
func command(ctx context.Context, file *os.File, words string) error {
	args := strings.Fields(words)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", words, err, strings.TrimSpace(string(out)))
	}
	return nil
}
