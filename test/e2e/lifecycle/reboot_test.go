package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/overland-net/overland/test/lab/daemon"
)

// labProcesses lists the lab's processes by their numbers there.
func labProcesses(l *lab) []process {
	l.t.Helper()
	return processesIn(l.t, fmt.Sprintf("/proc/%d/root/proc", l.first().PID))
}

// nodeProcesses lists what runs on a node. Its programs and their containers are
// the daemon's children and become its first process's when they lose their
// parent, so both are looked for.
func nodeProcesses(l *lab, node daemon.NodeStatus) []process {
	l.t.Helper()
	all := labProcesses(l)
	found := below(all, node.PID)
	for _, c := range node.Components {
		found = append(found, below(all, c.PID)...)
	}
	return found
}

func reboot(l *lab) {
	node := l.status().Clusters[0].Nodes[0]
	old := nodeProcesses(l, node)
	marks := markNamespaces(l, old)
	// At least the node's own and that of its pod of the cluster's DNS.
	if marks < 2 {
		l.t.Fatalf("the node has %d network namespaces", marks)
	}
	holdNamespace(l)
	links := l.must("netns", "west-vnet", "--", "ls", "/sys/class/net")
	began := time.Now()
	l.must("reboot", "west/node-1", "--first", "kube-proxy")
	l.t.Logf("rebooted after %s", time.Since(began))
	now := l.status().Clusters[0].Nodes[0]
	if now.BootID == node.BootID || now.PID == node.PID {
		l.t.Errorf("the node was not rebooted: %+v", now)
	}
	for _, p := range labProcesses(l) {
		for _, before := range old {
			if p.pid == before.pid && p.start == before.start {
				l.t.Errorf("still there: process %d of the old boot", p.pid)
			}
		}
	}
	l.eventually("the old network namespaces are gone", func() bool {
		return !strings.Contains(l.must("netns", "outside", "--", "ip", "-oneline", "link"), "mark")
	})
	l.t.Logf("no old namespace after %s", time.Since(began))
	if after := l.must("netns", "west-vnet", "--", "ls", "/sys/class/net"); after != links {
		l.t.Errorf("the router had\n%sand has\n%s", links, after)
	}
	l.eventually("the node and its DNS are ready", func() bool {
		out := l.must("netns", "west-cp", "--", filepath.Join(l.dir.Bin(), "kubectl"), "--kubeconfig",
			filepath.Join(l.dir.Cluster("west"), "kubeconfig"), "get", "pods", "-A", "-o",
			`jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		return out == "True"
	})
}

// markNamespaces gives every network namespace of the processes a device whose
// other end is outside: that vanishes when, and not before, the kernel has
// destroyed the namespace. It returns how many there are.
func markNamespaces(l *lab, all []process) int {
	l.t.Helper()
	marked := map[string]bool{}
	for _, p := range all {
		if p.net == "" || marked[p.net] {
			continue
		}
		name := fmt.Sprintf("mark%d", len(marked))
		l.must("netns", "outside", "--", "ip", "link", "add", name, "type", "veth",
			"peer", "name", name, "netns", strconv.Itoa(p.pid))
		marked[p.net] = true
	}
	return len(marked)
}

// Numbers of bpf(2), from the kernel's include/uapi/linux/bpf.h.
const (
	bpfProgramLoad, bpfObjectPin, bpfLinkCreate = 5, 6, 28
	bpfProgramNetfilter, bpfAttachNetfilter     = 32, 45
)

// holdNamespace pins a netfilter program's link in the node's bpffs. Such a
// link holds its network namespace, as an agent's programs do.
func holdNamespace(l *lab) {
	l.t.Helper()
	where, err := l.client.NodeNamespaces(context.Background(), "west/node-1")
	if err != nil {
		l.t.Fatal(err)
	}
	if err := where.Do(pinLink); err != nil {
		l.t.Fatalf("pin a link: %v", err)
	}
}

func pinLink() error {
	// r0 = 1, which accepts; exit.
	program := []uint64{1<<32 | 0xb7, 0x95}
	license := []byte("GPL\x00")
	load := struct {
		kind, count            uint32
		instructions, license  uint64
		logLevel, logSize      uint32
		log                    uint64
		version, flags         uint32
		name                   [16]byte
		interfaceIndex, attach uint32
	}{
		kind: bpfProgramNetfilter, count: uint32(len(program)), attach: bpfAttachNetfilter,
		instructions: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, err := bpf(bpfProgramLoad, unsafe.Pointer(&load), unsafe.Sizeof(load))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	create := struct {
		program, target, attach, flags uint32
		family, hook                   uint32
		priority                       int32
		linkFlags                      uint32
	}{program: uint32(fd), attach: bpfAttachNetfilter, family: unix.NFPROTO_IPV4, hook: unix.NF_INET_FORWARD, priority: 77}
	link, err := bpf(bpfLinkCreate, unsafe.Pointer(&create), unsafe.Sizeof(create))
	if err != nil {
		return errors.Join(fmt.Errorf("link: %w", err), unix.Close(fd))
	}
	path := []byte("/sys/fs/bpf/held\x00")
	pin := struct {
		path  uint64
		fd    uint32
		flags uint32
	}{path: uint64(uintptr(unsafe.Pointer(&path[0]))), fd: uint32(link)}
	_, err = bpf(bpfObjectPin, unsafe.Pointer(&pin), unsafe.Sizeof(pin))
	runtime.KeepAlive(path)
	return errors.Join(err, unix.Close(link), unix.Close(fd))
}

func bpf(command uintptr, attributes unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attributes), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
