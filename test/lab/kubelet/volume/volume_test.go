package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
)

type fakeObjects struct {
	configMaps map[string]map[string]string
	tokens     int
	life       time.Duration
	down       bool
}

func (f *fakeObjects) ConfigMap(_ context.Context, _, name string) (*v1.ConfigMap, error) {
	if data, ok := f.configMaps[name]; ok {
		return &v1.ConfigMap{Data: data}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (f *fakeObjects) Secret(_ context.Context, _, name string) (*v1.Secret, error) {
	return &v1.Secret{Data: map[string][]byte{"p": []byte("of " + name)}}, nil
}

func (f *fakeObjects) Token(context.Context, *v1.Pod, *v1.ServiceAccountTokenProjection) (string, time.Time, error) {
	if f.down {
		return "", time.Time{}, errors.New("API server away")
	}
	f.tokens++
	return strings.Repeat("t", f.tokens), time.Now().Add(f.life), nil
}

func ptr[T any](v T) *T { return &v }

func podWith(volumes ...v1.Volume) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"a": "b"}},
		Spec:       v1.PodSpec{Volumes: volumes},
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMirroredVolumeChangesAtOnce(t *testing.T) {
	objects := &fakeObjects{configMaps: map[string]map[string]string{"cm": {"a": "1", "b": "2"}}}
	m := NewManager(t.TempDir(), objects, nil)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}}})
	paths, err := m.Setup(context.Background(), pod, podspec.Addresses{})
	if err != nil {
		t.Fatal(err)
	}
	dir := paths["v"]
	link, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil || content(t, filepath.Join(dir, "a")) != "1" {
		t.Fatalf("%s, %v", link, err)
	}
	if _, err = m.Setup(context.Background(), pod, podspec.Addresses{}); err != nil {
		t.Fatal(err)
	}
	if same, _ := os.Readlink(filepath.Join(dir, dataLink)); same != link {
		t.Error("rewritten without a change")
	}
	objects.configMaps["cm"] = map[string]string{"a": "3", "c": "4"}
	if _, err = m.Setup(context.Background(), pod, podspec.Addresses{}); err != nil {
		t.Fatal(err)
	}
	if content(t, filepath.Join(dir, "a")) != "3" || content(t, filepath.Join(dir, "c")) != "4" {
		t.Error("the change did not arrive")
	}
	if _, err := os.Lstat(filepath.Join(dir, "b")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a key that is gone is still there")
	}
	if entries, _ := filepath.Glob(filepath.Join(dir, "..*_20*")); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestItemsModesAndOptional(t *testing.T) {
	objects := &fakeObjects{configMaps: map[string]map[string]string{"cm": {"a": "1", "b": "2"}}}
	m := NewManager(t.TempDir(), objects, nil)
	source := &v1.ConfigMapVolumeSource{
		LocalObjectReference: v1.LocalObjectReference{Name: "cm"}, DefaultMode: ptr(int32(0o400)),
		Items: []v1.KeyToPath{{Key: "a", Path: "sub/x", Mode: ptr(int32(0o444))}},
	}
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{ConfigMap: source}})
	paths, err := m.Setup(context.Background(), pod, podspec.Addresses{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(paths["v"], "sub/x"))
	if err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("%v, %v", info, err)
	}
	source.Items[0].Key = "none"
	if _, err := m.Setup(context.Background(), pod, podspec.Addresses{}); err == nil {
		t.Error("a missing key is no error")
	}
	source.Name, source.Items, source.Optional = "none", nil, ptr(true)
	if _, err := m.Setup(context.Background(), pod, podspec.Addresses{}); err != nil {
		t.Errorf("optional: %v", err)
	}
}

func TestProjectedVolumeHasTokenAndFields(t *testing.T) {
	objects := &fakeObjects{configMaps: map[string]map[string]string{"kube-root-ca.crt": {"ca.crt": "CA"}}, life: time.Hour}
	m := NewManager(t.TempDir(), objects, nil)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
		{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token"}},
		{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
		{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
	}}}})
	for range 3 {
		paths, err := m.Setup(context.Background(), pod, podspec.Addresses{})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"token": "t", "ca.crt": "CA", "namespace": "ns"} {
			if got := content(t, filepath.Join(paths["v"], name)); got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
	}
	// Nearly over: it is asked for again, and serves on while that fails.
	key := tokenKey{pod: "u", volume: "v/token"}
	m.tokens[key] = token{text: "old", issued: time.Now().Add(-90 * time.Minute), expires: time.Now().Add(10 * time.Minute)}
	objects.down = true
	paths, err := m.Setup(context.Background(), pod, podspec.Addresses{})
	if err != nil || content(t, filepath.Join(paths["v"], "token")) != "old" {
		t.Errorf("API server away: %v", err)
	}
	objects.down = false
	if _, err := m.Setup(context.Background(), pod, podspec.Addresses{}); err != nil || content(t, filepath.Join(paths["v"], "token")) != "tt" {
		t.Errorf("not renewed: %v", err)
	}
}

func TestHostPathTypes(t *testing.T) {
	dir := t.TempDir()
	here := filepath.Join(dir, "file")
	if err := os.WriteFile(here, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path string
		kind v1.HostPathType
		ok   bool
	}{
		"any, made":          {filepath.Join(dir, "new"), v1.HostPathUnset, true},
		"directory, missing": {filepath.Join(dir, "none"), v1.HostPathDirectory, false},
		"directory, made":    {filepath.Join(dir, "made"), v1.HostPathDirectoryOrCreate, true},
		"directory, a file":  {here, v1.HostPathDirectory, false},
		"file":               {here, v1.HostPathFile, true},
		"file, made":         {filepath.Join(dir, "f2"), v1.HostPathFileOrCreate, true},
		"socket, a file":     {here, v1.HostPathSocket, false},
	} {
		err := hostPath(&v1.HostPathVolumeSource{Path: c.path, Type: &c.kind})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownKindNamesTheKnownOnes(t *testing.T) {
	m := NewManager(t.TempDir(), &fakeObjects{}, nil)
	_, err := m.Setup(context.Background(), podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{NFS: &v1.NFSVolumeSource{}}}), podspec.Addresses{})
	if !errors.Is(err, ErrKind) {
		t.Errorf("%v", err)
	}
}

func TestEmptyDirKeepsItsDataUntilTeardown(t *testing.T) {
	m := NewManager(t.TempDir(), &fakeObjects{}, nil)
	pod := podWith(v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	paths, err := m.Setup(context.Background(), pod, podspec.Addresses{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(paths["v"], "x"), []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Setup(context.Background(), pod, podspec.Addresses{}); err != nil || content(t, filepath.Join(paths["v"], "x")) != "y" {
		t.Errorf("data lost: %v", err)
	}
	if err := m.Teardown("u"); err != nil {
		t.Fatal(err)
	}
	if known, err := m.Known(); err != nil || len(known) != 0 {
		t.Errorf("left: %v, %v", known, err)
	}
}

func TestSubPathMustStayInTheVolume(t *testing.T) {
	m := NewManager(t.TempDir(), &fakeObjects{}, nil)
	for _, sub := range []string{"..", "../x", "/etc"} {
		if _, err := m.subPath(podWith(), t.TempDir(), sub, "c-0"); err == nil {
			t.Errorf("%s: no error", sub)
		}
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.subPath(podWith(), dir, "out/passwd", "c-0"); err == nil {
		t.Error("a link led out of the volume")
	}
}
