package runtime

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// image is a program of the machine, presented as the image of that name is.
type image struct {
	entrypoint []string
	args       []string // default arguments, unless the pod gives a command
	// programs are bound at their paths in the container: path there → path
	// on the node.
	programs map[string]string
	// links are folders of the container that hold only these links.
	links map[string]map[string]string
	path  string // PATH
	dir   string // working folder
	// needs is a file on the node, and what to install if it is not there.
	needs, from string
}

const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// images is the table of all images, by the last element of their name.
func images(c Config) map[string]image {
	lab := func(name, program string, entrypoint, args []string) image {
		source := filepath.Join(c.Programs, program)
		return image{
			entrypoint: entrypoint, args: args, path: standardPath, dir: "/",
			programs: map[string]string{"/" + program: source},
			links:    map[string]map[string]string{"/usr/local/bin": {name: "/" + program}},
			needs:    source, from: "it is part of the lab: build it again",
		}
	}
	table := map[string]image{
		"agnhost":    lab("agnhost", "agnhost", []string{"/agnhost"}, []string{"pause"}),
		"pause":      lab("pause", "agnhost", []string{"/agnhost", "pause"}, nil),
		"coredns":    lab("coredns", "coredns", []string{"/coredns"}, nil),
		"kube-proxy": lab("kube-proxy", "kube-proxy", []string{"/kube-proxy"}, nil),
		"kubectl":    lab("kubectl", "kubectl", []string{"/kubectl"}, nil),
		"netprobe": {
			entrypoint: []string{"/netprobe"}, path: standardPath, dir: "/",
			programs: map[string]string{"/netprobe": c.Self},
			needs:    c.Self, from: "it is part of the lab: build it again",
		},
		// All programs, as in the image that users get; `lab overland` puts
		// them there.
		"overland-agent": {
			entrypoint: []string{"/overland-agent"}, path: standardPath, dir: "/",
			programs: map[string]string{
				"/overland-agent": filepath.Join(c.Programs, "overland-agent"),
				"/overland":       filepath.Join(c.Programs, "overland"),
				"/overland-cni":   filepath.Join(c.Programs, "overland-cni"),
			},
			links: map[string]map[string]string{"/usr/local/bin": {
				"overland-agent": "/overland-agent", "overland": "/overland",
			}},
			needs: filepath.Join(c.Programs, "overland-agent"), from: "`lab overland` installs it",
		},
		"redis": {
			entrypoint: []string{"redis-server"}, args: []string{"--protected-mode", "no"},
			path: standardPath, dir: "/data",
			links: map[string]map[string]string{"/usr/local/bin": {
				"redis-server": "/usr/bin/redis-server", "redis-cli": "/usr/bin/redis-cli",
			}},
			needs: "/usr/bin/redis-server", from: "install the Debian package redis-server",
		},
		"busybox": {
			entrypoint: nil, args: []string{"sh"}, path: "/bin:" + standardPath, dir: "/",
			needs: "/usr/bin/busybox", from: "install the Debian package busybox-static",
		},
	}
	return table
}

// imageName is the last path element of a reference, without tag and digest:
// "registry.k8s.io/e2e-test-images/agnhost:2.53" is agnhost.
func imageName(reference string) string {
	name, _, _ := strings.Cut(reference, "@")
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, ":")
	return name
}

// findImage is the image that reference means, ready for use.
func findImage(c Config, reference string) (image, error) {
	table := images(c)
	name := imageName(reference)
	found, ok := table[name]
	if !ok {
		names := strings.Join(slices.Sorted(maps.Keys(table)), ", ")
		return image{}, fmt.Errorf("image %q: %w: the lab has %s", reference, ErrImage, names)
	}
	if _, err := os.Stat(found.needs); err != nil {
		return image{}, fmt.Errorf("image %q: %w here: %s is missing: %s", reference, ErrImage, found.needs, found.from)
	}
	if found.links == nil {
		// What the machine's owner installed there is no image's.
		found.links = map[string]map[string]string{"/usr/local/bin": {}}
	}
	if name == "busybox" {
		applets, err := busyboxLinks(found.needs)
		if err != nil {
			return image{}, fmt.Errorf("image %q: %w", reference, err)
		}
		found.links["/bin"] = applets
	}
	return found, nil
}

// busyboxLinks is the folder that busybox's own image has as /bin: every
// applet, linked to the one program.
func busyboxLinks(program string) (map[string]string, error) {
	out, err := exec.Command(program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the applets of %s: %w", program, err)
	}
	links := map[string]string{"busybox": program}
	for _, name := range strings.Fields(string(out)) {
		links[name] = program
	}
	return links, nil
}

// linkFolder makes the folder dir with the links, and leaves it as it is if it
// is there already.
func linkFolder(dir string, links map[string]string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(temporary, name)); err != nil {
			return err
		}
	}
	if err := os.Rename(temporary, dir); err != nil {
		// Another container of the image was quicker.
		if _, there := os.Stat(dir); there == nil {
			return os.RemoveAll(temporary)
		}
		return err
	}
	return nil
}

// command is what to execute for a container that asks for command and args:
// as Kubernetes defines it, a command of the pod replaces the image's default
// arguments too.
func (i image) command(command, args []string) []string {
	if len(command) > 0 {
		return slices.Concat(command, args)
	}
	if len(args) > 0 {
		return slices.Concat(i.entrypoint, args)
	}
	return slices.Concat(i.entrypoint, i.args)
}
