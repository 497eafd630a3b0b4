package podspec

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
)

// EnvSources is what a container's environment is read from. ConfigMap and
// Secret return the API's error for an object that is not there.
type EnvSources struct {
	Services    []*v1.Service // of every namespace
	Addresses   Addresses
	Allocatable v1.ResourceList
	ConfigMap   func(name string) (*v1.ConfigMap, error)
	Secret      func(name string) (*v1.Secret, error)
}

// Environment is the container's environment by name, without what the image
// sets.
func Environment(pod *v1.Pod, container *v1.Container, from EnvSources) (map[string]string, error) {
	services := serviceVars(pod, from.Services)
	env := map[string]string{}
	for _, source := range container.EnvFrom {
		if err := addAll(env, source, from); err != nil {
			return nil, err
		}
	}
	visible := make(map[string]string, len(services)+len(env))
	for k, v := range services {
		visible[k] = v
	}
	for k, v := range env {
		visible[k] = v
	}
	for _, variable := range container.Env {
		value, set, err := valueOf(pod, container, variable, from, visible)
		if err != nil {
			return nil, err
		}
		if set {
			visible[variable.Name] = value
		}
	}
	return visible, nil
}

// List is the environment as sorted NAME=value.
func List(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}

func valueOf(pod *v1.Pod, container *v1.Container, variable v1.EnvVar, from EnvSources, visible map[string]string) (value string, set bool, err error) {
	source := variable.ValueFrom
	switch {
	case variable.Value != "" || source == nil:
		return Expand(variable.Value, visible), true, nil
	case source.FieldRef != nil:
		value, err = Field(pod, source.FieldRef.FieldPath, from.Addresses)
	case source.ResourceFieldRef != nil:
		value, err = Resource(pod, container, source.ResourceFieldRef, from.Allocatable)
	case source.ConfigMapKeyRef != nil:
		ref := source.ConfigMapKeyRef
		object, err := from.ConfigMap(ref.Name)
		if err != nil {
			return missing(err, ref.Optional)
		}
		value, found := object.Data[ref.Key]
		return keyed(value, found, ref.Optional, ref.Key, "ConfigMap", pod.Namespace, ref.Name)
	case source.SecretKeyRef != nil:
		ref := source.SecretKeyRef
		object, err := from.Secret(ref.Name)
		if err != nil {
			return missing(err, ref.Optional)
		}
		value, found := object.Data[ref.Key]
		return keyed(string(value), found, ref.Optional, ref.Key, "Secret", pod.Namespace, ref.Name)
	default:
		err = fmt.Errorf("environment variable %s: this kind of source is not supported by the lab's kubelet", variable.Name)
	}
	return value, err == nil, err
}

func missing(err error, optional *bool) (string, bool, error) {
	if errors.IsNotFound(err) && optional != nil && *optional {
		return "", false, nil
	}
	return "", false, err
}

func keyed(value string, found bool, optional *bool, key, kind, namespace, name string) (string, bool, error) {
	if found || optional != nil && *optional {
		return value, found, nil
	}
	return "", false, fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, namespace, name)
}

func addAll(env map[string]string, source v1.EnvFromSource, from EnvSources) error {
	switch {
	case source.ConfigMapRef != nil:
		object, err := from.ConfigMap(source.ConfigMapRef.Name)
		if err != nil {
			_, _, err = missing(err, source.ConfigMapRef.Optional)
			return err
		}
		for k, v := range object.Data {
			env[source.Prefix+k] = v
		}
	case source.SecretRef != nil:
		object, err := from.Secret(source.SecretRef.Name)
		if err != nil {
			_, _, err = missing(err, source.SecretRef.Optional)
			return err
		}
		for k, v := range object.Data {
			env[source.Prefix+k] = string(v)
		}
	}
	return nil
}

// serviceVars are the variables that tell a pod where the services of its
// namespace are; the API server's own are there always.
func serviceVars(pod *v1.Pod, services []*v1.Service) map[string]string {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	env := map[string]string{}
	// The API server's service loses against one of that name in the pod's namespace.
	for _, own := range []bool{false, true} {
		for _, s := range services {
			if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == v1.ClusterIPNone || len(s.Spec.Ports) == 0 {
				continue
			}
			api := s.Namespace == defaultNamespace && s.Name == "kubernetes"
			if own && links && s.Namespace == pod.Namespace || !own && api {
				addService(env, s)
			}
		}
	}
	return env
}

// defaultNamespace is the namespace of the API server's own Service.
const defaultNamespace = "default"

func addService(env map[string]string, s *v1.Service) {
	variable := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
	prefix, ip := variable(s.Name), s.Spec.ClusterIP
	env[prefix+"_SERVICE_HOST"] = ip
	for i, port := range s.Spec.Ports {
		number := strconv.Itoa(int(port.Port))
		protocol := strings.ToLower(string(port.Protocol))
		if protocol == "" {
			protocol = "tcp"
		}
		url := protocol + "://" + net.JoinHostPort(ip, number)
		if i == 0 {
			env[prefix+"_SERVICE_PORT"] = number
			env[prefix+"_PORT"] = url
		}
		if port.Name != "" {
			env[prefix+"_SERVICE_PORT_"+variable(port.Name)] = number
		}
		link := prefix + "_PORT_" + number + "_" + strings.ToUpper(protocol)
		env[link], env[link+"_PROTO"], env[link+"_PORT"], env[link+"_ADDR"] = url, protocol, number, ip
	}
}
