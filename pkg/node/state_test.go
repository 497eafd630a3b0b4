package node

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/overland-net/overland/pkg/model"
)

func bootID(t *testing.T, id string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(path, []byte(id+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func present(names ...string) func() ([]model.Interface, error) {
	return func() ([]model.Interface, error) {
		var list []model.Interface
		for i, name := range names {
			list = append(list, model.Interface{Name: name, Index: i + 2})
		}
		return list, nil
	}
}

func notAsked(t *testing.T) func() ([]model.Interface, error) {
	return func() ([]model.Interface, error) {
		t.Error("the interfaces were asked for, though it is no first installation")
		return nil, nil
	}
}

func begin(t *testing.T, dir, boot string, ask func() ([]model.Interface, error)) (*State, Start) {
	t.Helper()
	s, start, err := Begin(dir, bootID(t, boot), ask)
	if err != nil {
		t.Fatal(err)
	}
	return s, start
}

func TestStartsFollowTheBootID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "it")
	first, start := begin(t, dir, "boot-1", present("azva", "azvb"))
	if start != FirstInstall || len(first.Grandfathered()) != 2 {
		t.Fatalf("first start: %v with %v", start, first.Grandfathered())
	}
	again, start := begin(t, dir, "boot-1", notAsked(t))
	if start != Restart || !reflect.DeepEqual(again.Grandfathered(), first.Grandfathered()) {
		t.Errorf("same boot: %v with %v", start, again.Grandfathered())
	}
	rebooted, start := begin(t, dir, "boot-2", notAsked(t))
	if start != Reboot || len(rebooted.Grandfathered()) != 0 {
		t.Errorf("another boot: %v with %v", start, rebooted.Grandfathered())
	}
	if _, start := begin(t, dir, "boot-2", notAsked(t)); start != Restart {
		t.Errorf("after the reboot: %v", start)
	}
	if rebooted.InstallID() != first.InstallID() || first.InstallID() == "" {
		t.Errorf("installation %q became %q", first.InstallID(), rebooted.InstallID())
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("file: %v, %v", info.Mode(), err)
	}
}

func TestGrandfatheredOnlyShrink(t *testing.T) {
	dir := t.TempDir()
	s, _ := begin(t, dir, "b", present("azva", "azvb", "azvc"))
	another := model.Interface{Name: "azvb", Index: 99} // made anew under its old name
	if err := s.Keep([]model.Interface{{Name: "azva", Index: 2}, another, {Name: "azvnew", Index: 7}}); err != nil {
		t.Fatal(err)
	}
	want := []model.Interface{{Name: "azva", Index: 2}}
	if got := s.Grandfathered(); !reflect.DeepEqual(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	if again, _ := begin(t, dir, "b", notAsked(t)); !reflect.DeepEqual(again.Grandfathered(), want) {
		t.Errorf("on the disk %v, want %v", again.Grandfathered(), want)
	}
}

func TestADamagedFileIsNoFirstInstallation(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	begin(t, good, "b", present("azva"))
	text, err := os.ReadFile(filepath.Join(good, fileName))
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string]string{
		"empty": "", "zeros": strings.Repeat("\x00", len(text)), "torn": string(text[:len(text)/2]),
		"two": string(text) + string(text), "other version": `{"version":2,"bootID":"b","installID":"i"}`,
		"no boot": `{"version":1,"installID":"i"}`, "no object": `7`, "huge": strings.Repeat(" ", maxFile+1),
	}
	for name, text := range damaged {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			s, start := begin(t, dir, "b", notAsked(t))
			if start != Unknown || s.Damage() == nil || len(s.Grandfathered()) != 0 {
				t.Errorf("%v, damage %v, grandfathered %v", start, s.Damage(), s.Grandfathered())
			}
			if _, start := begin(t, dir, "b", notAsked(t)); start != Restart {
				t.Errorf("then: %v", start)
			}
		})
	}
}

func TestAWriteThatATornOneLeftIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	begin(t, dir, "b", present())
	if err := os.WriteFile(filepath.Join(dir, fileName+".new"), []byte(strings.Repeat("x", 9999)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, start := begin(t, dir, "c", notAsked(t)); start != Reboot {
		t.Errorf("got %v", start)
	}
	if s, start := begin(t, dir, "c", notAsked(t)); start != Restart || s.Damage() != nil {
		t.Errorf("then %v, %v", start, s.Damage())
	}
}

func TestAStateThatCannotBeWrittenIsGoodAllTheSame(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	begin(t, dir, "b", present("azva"))
	if err := os.Mkdir(filepath.Join(dir, fileName+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, start, err := Begin(dir, bootID(t, "c"), notAsked(t))
	if err == nil || s == nil || start != Reboot {
		t.Fatalf("got %v, %v, %v", s, start, err)
	}
	if err := os.Remove(filepath.Join(dir, fileName+".new")); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	if _, start := begin(t, dir, "c", notAsked(t)); start != Restart {
		t.Errorf("once it was written: %v", start)
	}
}

func TestWithoutBootIDThereIsNoStart(t *testing.T) {
	if _, _, err := Begin(t.TempDir(), "/does/not/exist", notAsked(t)); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("got %v", err)
	}
	if _, _, err := Begin(t.TempDir(), bootID(t, " "), notAsked(t)); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("got %v", err)
	}
}

func TestInterfacesThatCannotBeListedAreNoFirstInstallation(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("broken")
	_, _, err := Begin(dir, bootID(t, "b"), func() ([]model.Interface, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, start := begin(t, dir, "b", present()); start != FirstInstall {
		t.Errorf("then %v", start)
	}
}

func TestForgetMakesAFirstInstallation(t *testing.T) {
	dir := t.TempDir()
	begin(t, dir, "b", present())
	for range 2 {
		if err := Forget(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := Forget(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
	if _, start := begin(t, dir, "b", present()); start != FirstInstall {
		t.Errorf("got %v", start)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"bootID":"b","installID":"i","grandfathered":[{"name":"azva","index":2}]}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parse(text)
		if (err == nil) != (got.BootID != "") {
			t.Errorf("%v with %v", got, err)
		}
	})
}
