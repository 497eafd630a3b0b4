package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/overland-net/overland/test/lab/rootfs"
)

// containerSpec is everything that the shim and the init of a container have
// to know. It is kept in the container's folder, so that a later runtime takes
// the container over.
type containerSpec struct {
	ID, SandboxID, ImageID string
	Dir                    string // the container's folder
	LogPath, MessageFile   string
	Config                 ContainerConfig
	Process                processSpec
	Net, UTS, IPC          string // namespaces to enter; empty: the node's
	HostPID                bool
	Root                   rootfs.Spec
	Folders                []folder
}

// folder is one that is made in the container's root if it is missing.
type folder struct {
	Path string
	Mode fs.FileMode // permission bits, and fs.ModeSticky
}

// newContainerSpec is the whole description of a container of sandbox s.
func newContainerSpec(cfg Config, s sandboxRecord, id string, c ContainerConfig) (containerSpec, error) {
	img, err := findImage(cfg, c.Image)
	if err != nil {
		return containerSpec{}, err
	}
	dir := filepath.Join(cfg.Dir, "containers", id)
	spec := containerSpec{
		ID: id, SandboxID: s.ID, ImageID: "lab://" + imageName(c.Image), Dir: dir,
		LogPath:     filepath.Join(logFolder(cfg, s.Sandbox), c.Name, strconv.Itoa(c.Attempt)+".log"),
		MessageFile: filepath.Join(dir, "termination-log"),
		Config:      c, Net: s.NetNS, UTS: s.UTS, IPC: s.IPC, HostPID: s.Config.HostPID,
	}
	if spec.Process, err = newProcess(img, s, c); err != nil {
		return containerSpec{}, err
	}
	if spec.Root, err = newRoot(cfg, img, s, spec); err != nil {
		return containerSpec{}, err
	}
	spec.Folders = []folder{
		{"/root", 0o700},
		{"/tmp", 0o777 | fs.ModeSticky},
		{"/run", 0o755},
		{"/run/lock", 0o777 | fs.ModeSticky},
		{"/var/tmp", 0o777 | fs.ModeSticky},
		{"/var/log", 0o755},
		{"/var/lib", 0o755},
		{"/var/cache", 0o755},
		{"/etc", 0o755},
		{"/home", 0o755},
		{"/opt", 0o755},
		{"/mnt", 0o755},
		{spec.Process.Dir, 0o755},
	}
	return spec, nil
}

// logFolder is the folder of a pod's logs, named as the kubelet names it.
func logFolder(cfg Config, s Sandbox) string {
	return filepath.Join(cfg.LogDir, s.Namespace+"_"+s.Name+"_"+s.UID)
}

func newProcess(img image, s sandboxRecord, c ContainerConfig) (processSpec, error) {
	p := processSpec{
		Args:            img.command(c.Command, c.Args),
		Dir:             cmp.Or(c.WorkingDir, img.dir),
		NoNewPrivileges: c.Security.NoNewPrivileges,
		TTY:             c.TTY,
	}
	if len(p.Args) == 0 {
		return p, errors.New("no command, and the image has none")
	}
	if !filepath.IsAbs(p.Dir) {
		return p, fmt.Errorf("the working folder %q is not an absolute path", p.Dir)
	}
	if c.Security.User != nil {
		p.UID = int(*c.Security.User)
	}
	if c.Security.Group != nil {
		p.GID = int(*c.Security.Group)
	}
	for _, g := range c.Security.SupplementalGroups {
		p.Groups = append(p.Groups, int(g))
	}
	var err error
	if p.Capabilities, err = capabilities(c.Security); err != nil {
		return p, err
	}
	home := "/"
	if p.UID == 0 {
		home = "/root"
	}
	p.Env = []string{"PATH=" + img.path, "HOSTNAME=" + s.Hostname}
	if c.TTY {
		p.Env = append(p.Env, "TERM=xterm")
	}
	p.Env = mergeEnv(append(p.Env, "HOME="+home), c.Env)
	return p, nil
}

// mergeEnv is env with the entries of over, which win.
func mergeEnv(env, over []string) []string {
	given := map[string]bool{}
	for _, entry := range over {
		name, _, _ := strings.Cut(entry, "=")
		given[name] = true
	}
	var merged []string
	for _, entry := range env {
		if name, _, _ := strings.Cut(entry, "="); !given[name] {
			merged = append(merged, entry)
		}
	}
	return append(merged, over...)
}

// newRoot is the container's root: the machine's programs, the image's own,
// private folders, and the pod's volumes on top.
func newRoot(cfg Config, img image, s sandboxRecord, c containerSpec) (rootfs.Spec, error) {
	mounts, links, err := rootfs.System()
	if err != nil {
		return rootfs.Spec{}, err
	}
	// As Debian's images have them; volumes below /var/run must end up in /run.
	links["/var/run"], links["/var/lock"] = "/run", "/run/lock"
	root := rootfs.Spec{Dir: filepath.Join(c.Dir, "root"), Links: links}
	for target := range img.links {
		delete(links, target) // such as /bin, where the image has its own
	}
	root.Mounts = slices.Concat(mounts, etcMounts(), imageMounts(cfg, img, c))
	devices, deviceLinks := rootfs.Devices()
	root.Mounts = append(root.Mounts, devices...)
	for path, target := range deviceLinks {
		links[path] = target
	}
	root.Mounts = append(root.Mounts, kernelMounts(root.Dir, c.Config.Security.Privileged)...)
	volumes := append(volumeMounts(c, links), rootfs.Mount{
		Source: c.MessageFile,
		Target: throughLinks(cmp.Or(c.Config.TerminationMessagePath, "/dev/termination-log"), links),
	})
	root.Mounts = append(root.Mounts, volumes...)
	root.Files = etcFiles(s)
	for path, text := range c.Config.Files {
		root.Files[throughLinks(path, links)] = text
	}
	for path := range root.Files {
		// What the pod mounts there counts, and is not ours to write to.
		if slices.ContainsFunc(volumes, func(m rootfs.Mount) bool { return covers(m.Target, path) }) {
			delete(root.Files, path)
		}
	}
	return root, nil
}

// etcMounts is what of the machine's /etc programs need to work at all.
func etcMounts() []rootfs.Mount {
	var mounts []rootfs.Mount
	for _, path := range []string{
		"/etc/alternatives", "/etc/ssl", "/etc/services", "/etc/protocols", "/etc/ld.so.cache",
	} {
		if _, err := os.Stat(path); err == nil {
			mounts = append(mounts, rootfs.Mount{Source: path, Target: path, ReadOnly: true})
		}
	}
	return mounts
}

func etcFiles(s sandboxRecord) map[string]string {
	return map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n" +
			"www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nredis:x:999:999:redis:/data:/usr/sbin/nologin\n" +
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"/etc/group":         "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nredis:x:999:\nnogroup:x:65534:\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
		"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
		"/etc/hostname":      s.Hostname + "\n",
		"/etc/resolv.conf":   s.Config.ResolvConf,
	}
}

func imageMounts(cfg Config, img image, c containerSpec) []rootfs.Mount {
	var mounts []rootfs.Mount
	for target, source := range img.programs {
		mounts = append(mounts, rootfs.Mount{Source: source, Target: target, ReadOnly: true})
	}
	for target := range img.links {
		if _, err := os.Stat(target); err != nil {
			continue // /usr is read-only, so nothing can be made there
		}
		source := linkPath(cfg, imageName(c.Config.Image), target)
		mounts = append(mounts, rootfs.Mount{Source: source, Target: target, ReadOnly: true})
	}
	return mounts
}

// linkPath is where on the node an image's folder of links is kept.
func linkPath(cfg Config, name, target string) string {
	return filepath.Join(cfg.Dir, "images", name, strings.ReplaceAll(target[1:], "/", "-"))
}

// bootID is the id of the node's boot.
const bootID = "/proc/sys/kernel/random/boot_id"

// kernelMounts is /proc and /sys. What is machine-wide cannot be changed or
// read from an unprivileged container (the list is the usual one of container
// runtimes, less what Linux no longer has).
func kernelMounts(root string, privileged bool) []rootfs.Mount {
	mounts := []rootfs.Mount{
		{Type: "proc", Target: "/proc"},
		{Type: "sysfs", Target: "/sys", ReadOnly: !privileged},
	}
	// What the node covers in its own /proc is as the node has it: there is one
	// kernel on a real node, and one boot.
	boot := rootfs.Mount{Source: bootID, Target: bootID, ReadOnly: true}
	if privileged {
		return append(mounts, boot)
	}
	// The new file systems exist only once the root is built, so what can be
	// covered is read off the node's own.
	for _, path := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if _, err := os.Stat(path); err == nil {
			mounts = append(mounts, rootfs.Mount{Source: root + path, Target: path, ReadOnly: true})
		}
	}
	mounts = append(mounts, boot)
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"} {
		if _, err := os.Stat(path); err == nil {
			mounts = append(mounts, rootfs.Mount{Source: "/dev/null", Target: path})
		}
	}
	for _, path := range []string{"/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"} {
		if _, err := os.Stat(path); err == nil {
			mounts = append(mounts, rootfs.Mount{Type: "tmpfs", Target: path, ReadOnly: true})
		}
	}
	return mounts
}

// volumeMounts is the pod's volumes, those nearer to the root first, so that
// none hides another.
func volumeMounts(c containerSpec, links map[string]string) []rootfs.Mount {
	var mounts []rootfs.Mount
	for _, m := range c.Config.Mounts {
		mounts = append(mounts, rootfs.Mount{
			Source: m.Source, Target: throughLinks(m.Target, links), ReadOnly: m.ReadOnly,
		})
	}
	slices.SortStableFunc(mounts, func(a, b rootfs.Mount) int {
		return cmp.Compare(strings.Count(a.Target, "/"), strings.Count(b.Target, "/"))
	})
	return mounts
}

// throughLinks is path with the links of the root resolved: mounts are made
// before links are, and never through one.
func throughLinks(path string, links map[string]string) string {
	path = filepath.Clean("/" + path)
	for link, target := range links {
		if !covers(link, path) {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		return filepath.Join(target, path[len(link):])
	}
	return path
}

// covers says whether path is dir or lies below it.
func covers(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
