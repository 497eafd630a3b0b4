package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/overland-net/overland/test/lab/kubelet/podspec"
)

// ErrKind is in the chain of errors for kinds of volumes that the lab does not
// have; the text names those that it has.
var ErrKind = errors.New("this kind of volume is not known to the lab (it has configMap, downwardAPI, emptyDir, hostPath, projected, secret)")

// defaultMode is the API's default of files.
const defaultMode = 0o644

// payload is the files of a volume that mirrors API objects.
func (m *Manager) payload(ctx context.Context, pod *v1.Pod, v *v1.Volume, at podspec.Addresses) (map[string]file, error) {
	files := map[string]file{}
	var err error
	switch {
	case v.ConfigMap != nil:
		err = m.configMap(ctx, files, pod, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional, v.ConfigMap.DefaultMode)
	case v.Secret != nil:
		err = m.secret(ctx, files, pod, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional, v.Secret.DefaultMode)
	case v.DownwardAPI != nil:
		err = m.downward(files, pod, v.DownwardAPI.Items, v.DownwardAPI.DefaultMode, at)
	case v.Projected != nil:
		err = m.projected(ctx, files, pod, v, at)
	default:
		err = ErrKind
	}
	if err != nil {
		return nil, err
	}
	for name := range files {
		if name != path.Clean(name) || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "..") {
			return nil, fmt.Errorf("file name %q is not allowed", name)
		}
	}
	return files, nil
}

func (m *Manager) projected(ctx context.Context, files map[string]file, pod *v1.Pod, v *v1.Volume, at podspec.Addresses) error {
	mode := v.Projected.DefaultMode
	for _, source := range v.Projected.Sources {
		var err error
		switch {
		case source.ConfigMap != nil:
			err = m.configMap(ctx, files, pod, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.Optional, mode)
		case source.Secret != nil:
			err = m.secret(ctx, files, pod, source.Secret.Name, source.Secret.Items, source.Secret.Optional, mode)
		case source.DownwardAPI != nil:
			err = m.downward(files, pod, source.DownwardAPI.Items, mode, at)
		case source.ServiceAccountToken != nil:
			ask := source.ServiceAccountToken
			var text string
			if text, err = m.token(ctx, pod, v.Name, ask); err == nil {
				tokenMode := modeOf(nil, mode)
				if groupOf(pod) >= 0 {
					tokenMode = 0o600
				}
				files[ask.Path] = file{data: []byte(text), mode: tokenMode}
			}
		default:
			err = ErrKind
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) configMap(ctx context.Context, files map[string]file, pod *v1.Pod, name string, items []v1.KeyToPath, optional *bool, mode *int32) error {
	object, err := m.objects.ConfigMap(ctx, pod.Namespace, name)
	if err != nil {
		return absent(err, optional)
	}
	data := map[string][]byte{}
	for k, v := range object.Data {
		data[k] = []byte(v)
	}
	for k, v := range object.BinaryData {
		data[k] = v
	}
	return project(files, data, items, optional, mode, "configmap "+name)
}

func (m *Manager) secret(ctx context.Context, files map[string]file, pod *v1.Pod, name string, items []v1.KeyToPath, optional *bool, mode *int32) error {
	object, err := m.objects.Secret(ctx, pod.Namespace, name)
	if err != nil {
		return absent(err, optional)
	}
	return project(files, object.Data, items, optional, mode, "secret "+name)
}

func absent(err error, optional *bool) error {
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	return err
}

// project picks the wanted keys, all if none are named.
func project(files map[string]file, data map[string][]byte, items []v1.KeyToPath, optional *bool, mode *int32, what string) error {
	if len(items) == 0 {
		for k, v := range data {
			files[k] = file{data: v, mode: modeOf(nil, mode)}
		}
		return nil
	}
	for _, item := range items {
		content, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("%s has no key %q", what, item.Key)
		}
		files[item.Path] = file{data: content, mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func (m *Manager) downward(files map[string]file, pod *v1.Pod, items []v1.DownwardAPIVolumeFile, mode *int32, at podspec.Addresses) error {
	for _, item := range items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = podspec.Field(pod, item.FieldRef.FieldPath, at)
		case item.ResourceFieldRef != nil:
			text, err = podspec.Resource(pod, nil, item.ResourceFieldRef, m.allocatable)
		}
		if err != nil {
			return err
		}
		files[item.Path] = file{data: []byte(text), mode: modeOf(item.Mode, mode)}
	}
	return nil
}

func modeOf(own, fallback *int32) os.FileMode {
	switch {
	case own != nil:
		return os.FileMode(*own).Perm()
	case fallback != nil:
		return os.FileMode(*fallback).Perm()
	}
	return defaultMode
}

// token is the pod's token, asked for again when four fifths of its life (or a
// day) are over. If that fails, the one there is serves until it expires.
func (m *Manager) token(ctx context.Context, pod *v1.Pod, volume string, ask *v1.ServiceAccountTokenProjection) (string, error) {
	key := tokenKey{pod: pod.UID, volume: volume + "/" + ask.Path, audience: ask.Audience}
	now := time.Now()
	m.mu.Lock()
	have, ok := m.tokens[key]
	m.mu.Unlock()
	if ok && now.Before(have.issued.Add(min(24*time.Hour, have.expires.Sub(have.issued)*4/5))) {
		return have.text, nil
	}
	text, expires, err := m.objects.Token(ctx, pod, ask)
	if err != nil {
		if ok && now.Before(have.expires) {
			return have.text, nil
		}
		return "", fmt.Errorf("get a token of ServiceAccount %s/%s: %w", pod.Namespace, pod.Spec.ServiceAccountName, err)
	}
	m.mu.Lock()
	m.tokens[key] = token{text: text, issued: now, expires: expires}
	m.mu.Unlock()
	return text, nil
}
