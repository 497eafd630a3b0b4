package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/overland-net/overland/pkg/agent"
	"github.com/overland-net/overland/pkg/model"
)

const soon = 150 * time.Millisecond

func TestAPodIsEnforcedAndKnownWhenAddReturns(t *testing.T) {
	m := newMachine(t)
	m.sync(starting("web", 1))
	m.link("demo/web", 7, "10.1.0.7", "fd00:1::7")
	m.mustAdd(request("c1", "web", 1, 7, "fd00:1::7", "10.1.0.7"))
	s, _ := m.agent.Snapshot()
	if !knows("demo/web", "10.1.0.7")(s) || !knows("demo/web", "fd00:1::7")(s) {
		t.Error("its peers do not know it")
	}
	if e := s.Desired.Rules.Endpoint(m.links[0].Name); e == nil || e.UID != uid(1) || e.Interface.Index != 7 {
		t.Errorf("endpoint %+v", e)
	}
	if m.asked != 0 {
		t.Errorf("the API server was asked %d times for what is known", m.asked)
	}
	m.mustAdd(request("c1", "web", 1, 7, "10.1.0.7", "fd00:1::7")) // again
	if m.manager.Count() != 1 {
		t.Errorf("%d attachments", m.manager.Count())
	}
	if err := m.manager.Check(request("c1", "web", 1, 7, "10.1.0.7")); err != nil {
		t.Error(err)
	}
	if err := m.manager.Check(request("c2", "web", 1, 7, "10.1.0.7")); !errors.Is(err, ErrConflict) {
		t.Errorf("CHECK of a container that was never added: %v", err)
	}
}

func TestAddRefusesWhatTheKernelDoesNotHave(t *testing.T) {
	m := newMachine(t)
	m.sync(starting("web", 1), starting("other", 2))
	m.link("demo/web", 7, "10.1.0.7")
	m.link("demo/other", 8)
	for name, tt := range map[string]struct {
		r    Request
		want string
	}{
		"no such index":       {request("c", "web", 1, 99, "10.1.0.7"), "no pod interface with index 99"},
		"another's interface": {request("c", "web", 1, 8, "10.1.0.7"), "is expected for pod demo/web"},
		"no route":            {request("c", "web", 1, 7, "10.1.0.8"), "10.1.0.8 of pod demo/web is not routed"},
		"one route missing":   {request("c", "web", 1, 7, "10.1.0.7", "fd00::7"), "fd00::7"},
		"no address":          {request("c", "web", 1, 7), "no address"},
	} {
		t.Run(name, func(t *testing.T) {
			err := m.add(tt.r, 5*time.Second)
			if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a conflict that says %q", err, tt.want)
			}
		})
	}
	if m.manager.Count() != 0 {
		t.Errorf("%d attachments", m.manager.Count())
	}
}

func TestAddAsksForAPodThatIsNotKnownYet(t *testing.T) {
	m := newMachine(t)
	elsewhere := starting("elsewhere", 5)
	elsewhere.Node = "node-2"
	m.api["demo/web"], m.api["demo/elsewhere"] = starting("web", 1), elsewhere
	m.api["demo/db-0"] = starting("db-0", 4) // the next one of its name
	m.api["demo/static"], m.mirror["demo/static"] = starting("static", 6), uid(66)
	m.sync(starting("db-0", 3, "10.1.0.3"))
	for i, name := range []string{"web", "elsewhere", "gone", "db-0", "static"} {
		m.link("demo/"+name, 10+i, fmt.Sprintf("10.1.1.%d", i))
	}
	m.mustAdd(request("c1", "web", 1, 10, "10.1.1.0"))
	m.mustAdd(request("c4", "db-0", 4, 13, "10.1.1.3"))
	m.mustAdd(request("c5", "static", 66, 14, "10.1.1.4"))
	s, _ := m.agent.Snapshot()
	if !knows("demo/web", "10.1.1.0")(s) || !knows("demo/db-0", "10.1.1.3")(s) || knows("demo/db-0", "10.1.0.3")(s) || !knows("demo/static", "10.1.1.4")(s) {
		t.Error("peers do not know what was connected, or what was before")
	}
	if err := m.add(request("c2", "elsewhere", 5, 11, "10.1.1.1"), soon); !errors.Is(err, ErrConflict) {
		t.Errorf("a pod of another node: %v", err)
	}
	for name, r := range map[string]Request{"deleted": request("c3", "gone", 9, 12, "10.1.1.2"), "replaced": request("c6", "web", 9, 10, "10.1.1.0")} {
		if err := m.add(r, soon); !errors.Is(err, ErrNoPod) {
			t.Errorf("a pod that was %s: %v", name, err)
		}
	}
	m.do(func() { m.down = errors.New("connection refused") })
	for name, r := range map[string]Request{"unknown": request("c3", "gone", 9, 12, "10.1.1.2"), "known as another": request("c7", "db-0", 9, 13, "10.1.1.3")} {
		err := m.add(r, soon)
		if !errors.Is(err, ErrNotEnforced) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("a pod that is %s, while the API server is down: %v", name, err)
		}
	}
	// Sources have it by now: it goes with what they say.
	m.list(starting("web", 1))
	m.eventually("known by sources", func(*agent.Snapshot) bool {
		m.manager.mu.Lock()
		defer m.manager.mu.Unlock()
		return m.manager.list[0].Fact == nil
	})
	m.list()
	m.eventually("gone with its object", knowsNot("demo/web", "10.1.1.0"))
}

func TestAddWaitsForTheLocalClusterAndTheKernel(t *testing.T) {
	m := newMachine(t)
	m.link("demo/web", 7, "10.1.0.7")
	if err := m.add(request("c1", "web", 1, 7, "10.1.0.7"), soon); !errors.Is(err, ErrNotEnforced) || !strings.Contains(err.Error(), "local cluster") {
		t.Errorf("before the local cluster is known: %v", err)
	}
	if err := m.manager.Ready(); !errors.Is(err, ErrNotEnforced) {
		t.Errorf("ready: %v", err)
	}
	m.sync(starting("web", 1))
	m.do(func() { m.held, m.failing = true, "iptables-restore: no space left" })
	err := m.add(request("c1", "web", 1, 7, "10.1.0.7"), soon)
	if !errors.Is(err, ErrNotEnforced) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("while the kernel refuses: %v", err)
	}
	if err := m.manager.Ready(); err == nil {
		t.Error("it is ready although the dataplane is not")
	}
	done := make(chan error)
	go func() { done <- m.add(request("c1", "web", 1, 7, "10.1.0.7"), 20*time.Second) }()
	select {
	case err := <-done:
		t.Fatalf("ADD returned before the kernel had it: %v", err)
	case <-time.After(soon):
	}
	m.do(func() { m.held, m.failing = false, "" })
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDeleteWithdrawsTheAddressAndNothingElse(t *testing.T) {
	m := newMachine(t)
	m.sync(starting("web", 1))
	m.link("demo/web", 7, "10.1.0.7")
	m.mustAdd(request("c1", "web", 1, 7, "10.1.0.7"))
	m.list(starting("web", 1, "10.1.0.7")) // the kubelet has said so
	for range 2 {
		if err := m.manager.Delete("c1", "eth0"); err != nil {
			t.Error(err)
		}
	}
	if err := m.manager.Delete("never", "eth0"); err != nil {
		t.Error(err)
	}
	m.eventually("withdrawn", knowsNot("demo/web", "10.1.0.7"))
	s, _ := m.agent.Snapshot()
	if e := s.Desired.Rules.Endpoint(m.links[0].Name); e == nil || e.UID != uid(1) {
		t.Errorf("the link is still there, and its endpoint is %+v", e)
	}
	m.unlink(7)
	time.Sleep(soon)
	if s, _ := m.agent.Snapshot(); knows("demo/web", "10.1.0.7")(s) {
		t.Error("it is known again by what the API server still says")
	}
	m.list(starting("web", 1)) // which has heard of it
	m.eventually("forgotten", func(*agent.Snapshot) bool {
		m.manager.mu.Lock()
		defer m.manager.mu.Unlock()
		return len(m.manager.list) == 0
	})
}

func TestAddBeforeTheOldDelete(t *testing.T) {
	m := newMachine(t)
	m.sync(starting("db-0", 1))
	m.link("demo/db-0", 7, "10.1.0.7")
	m.mustAdd(request("c1", "db-0", 1, 7, "10.1.0.7"))
	m.link("demo/db-0", 8, "10.1.0.8") // of the same name
	m.mustAdd(request("c2", "db-0", 1, 8, "10.1.0.8"))
	if err := m.manager.Delete("c1", "eth0"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(soon)
	s, _ := m.agent.Snapshot()
	if !knows("demo/db-0", "10.1.0.8")(s) || knows("demo/db-0", "10.1.0.7")(s) {
		t.Error("the old DEL has taken the new address, or left the old one")
	}
}

func TestCollectEndsWhatIsNotListed(t *testing.T) {
	m := newMachine(t)
	m.sync(starting("a", 1), starting("b", 2))
	m.link("demo/a", 7, "10.1.0.7")
	m.link("demo/b", 8, "10.1.0.8")
	m.mustAdd(request("c1", "a", 1, 7, "10.1.0.7"))
	m.mustAdd(request("c2", "b", 2, 8, "10.1.0.8"))
	if err := m.manager.Collect(func(id, _ string) bool { return id == "c2" }); err != nil {
		t.Fatal(err)
	}
	m.eventually("a is withdrawn", knowsNot("demo/a", "10.1.0.7"))
	if s, _ := m.agent.Snapshot(); !knows("demo/b", "10.1.0.8")(s) || m.manager.Count() != 1 {
		t.Error("b is not known any more")
	}
}

// TestAnAttachmentOutlivesTheAgentAndNotItsLink: as with the API server down, when
// nobody else has the address.
func TestAnAttachmentOutlivesTheAgentAndNotItsLink(t *testing.T) {
	m := newMachine(t)
	m.sync(starting("a", 1), starting("b", 2))
	m.link("demo/a", 7, "10.1.0.7")
	m.link("demo/b", 8, "10.1.0.8")
	m.mustAdd(request("c1", "a", 1, 7, "10.1.0.7"))
	m.mustAdd(request("c2", "b", 2, 8, "10.1.0.8"))
	m.stop()
	m.do(func() { m.links = m.links[:1] }) // nobody saw one go
	m.start()
	m.sync(starting("a", 1), starting("b", 2))
	stays, goes := "demo/a", "demo/b"
	if m.links[0].Index == 8 {
		stays, goes = goes, stays
	}
	address := map[string]string{"demo/a": "10.1.0.7", "demo/b": "10.1.0.8"}
	m.eventually("one is known", knows(stays, address[stays]))
	m.eventually("the other is not", knowsNot(goes, address[goes]))
	// After a reboot there is none.
	m.stop()
	m.boot = "boot-2"
	m.start()
	if n := m.manager.Count(); n != 0 {
		t.Errorf("%d attachments after a reboot", n)
	}
}

func TestAListThatIsOlderThanTheAddEndsNothing(t *testing.T) {
	m := newMachine(t)
	m.sync(starting("a", 1))
	m.link("demo/a", 7, "10.1.0.7")
	m.mustAdd(request("c1", "a", 1, 7, "10.1.0.7"))
	m.manager.Interfaces(nil)
	if m.manager.Count() != 1 {
		t.Error("it was ended, though its link is there")
	}
}

func TestWhatCannotBeRememberedIsNotConnected(t *testing.T) {
	m := newMachine(t)
	m.sync(starting("a", 1))
	m.link("demo/a", 7, "10.1.0.7")
	if err := os.Mkdir(filepath.Join(m.dir, FileName+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.add(request("c1", "a", 1, 7, "10.1.0.7"), soon); err == nil || m.manager.Count() != 0 {
		t.Errorf("ADD: %v, %d attachments", err, m.manager.Count())
	}
}

func TestADamagedFileLosesAttachmentsAndNothingElse(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "torn": `{"version":1,"boot`, "other version": `{"version":2,"bootID":"boot-1"}`, "no boot": `{"version":1}`,
		"no name":       `{"version":1,"bootID":"boot-1","attachments":[{"containerID":"c"}]}`,
		"mapped":        `{"version":1,"bootID":"boot-1","attachments":[{"containerID":"c","ifName":"eth0","namespace":"n","pod":"p","interface":"azv1","index":3,"addresses":["::ffff:10.0.0.1"]}]}`,
		"empty address": `{"version":1,"bootID":"boot-1","attachments":[{"containerID":"c","ifName":"eth0","namespace":"n","pod":"p","interface":"azv1","index":3,"addresses":[""]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			ag := agent.New(agent.Config{Cluster: "west", Node: "node-1"}, nil, quiet())
			m, err := NewManager(Config{Cluster: "west", File: path, BootID: "boot-1"}, ag, nil, quiet())
			if err == nil || m == nil || m.Count() != 0 {
				t.Errorf("got %v, error %v", m, err)
			}
		})
	}
}

func TestFiftyAtOnce(t *testing.T) {
	m := newMachine(t)
	const n = 50
	var pods []*model.Endpoint
	for i := range n {
		pods = append(pods, starting(fmt.Sprint("p", i), byte(i+1)))
	}
	m.sync(pods...)
	var adding sync.WaitGroup
	for i := range n {
		adding.Go(func() {
			addr := netip.AddrFrom4([4]byte{10, 1, 5, byte(i)}).String()
			m.link(fmt.Sprint("demo/p", i), 100+i, addr)
			if err := m.add(request(fmt.Sprint("c", i), fmt.Sprint("p", i), byte(i+1), 100+i, addr), 30*time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	s, _ := m.agent.Snapshot()
	if len(s.Desired.Rules.Endpoints) != n || m.manager.Count() != n {
		t.Errorf("%d endpoints, %d attachments", len(s.Desired.Rules.Endpoints), m.manager.Count())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"bootID":"b","attachments":[{"containerID":"c","ifName":"eth0","namespace":"n","pod":"p","interface":"azv1","index":3,"addresses":["10.0.0.1"],"order":7}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parse(text, "b")
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), FileName)
		if err := write(path, "b", list); err != nil {
			t.Fatal(err)
		}
		again, err := read(path, "b")
		if err != nil || fmt.Sprint(again) != fmt.Sprint(list) {
			t.Errorf("read again: %v, %v, want %v", again, err, list)
		}
	})
}
