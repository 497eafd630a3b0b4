package source

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/overland-net/overland/pkg/model"
)

// edit changes a good kubeconfig; parts are its first cluster, user and context.
func edit(t testing.TB, change func(doc, cluster, user map[string]any)) []byte {
	t.Helper()
	_, ca := certificate(t.(*testing.T), "127.0.0.1", time.Now().Add(time.Hour))
	var doc map[string]any
	if err := json.Unmarshal(kubeconfigOf("https://10.0.0.1:6443", ca, "token"), &doc); err != nil {
		t.Fatal(err)
	}
	part := func(list, name string) map[string]any {
		return doc[list].([]any)[0].(map[string]any)[name].(map[string]any)
	}
	change(doc, part("clusters", "cluster"), part("users", "user"))
	data, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKubeconfigUnsafeFieldsAreNamed_1_2(t *testing.T) {
	for _, tt := range []struct {
		field  string
		change func(doc, cluster, user map[string]any)
	}{
		{"exec", func(_, _, u map[string]any) {
			u["exec"] = map[string]any{"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "interactiveMode": "Never"}
		}},
		{"auth-provider", func(_, _, u map[string]any) { u["auth-provider"] = map[string]any{"name": "gcp"} }},
		{"client-certificate (a file)", func(_, _, u map[string]any) { u["client-certificate"] = "/etc/passwd" }},
		{"client-key (a file)", func(_, _, u map[string]any) { u["client-key"] = "/etc/shadow" }},
		{"tokenFile", func(_, _, u map[string]any) { u["tokenFile"] = "/var/run/secrets/token" }},
		{"certificate-authority (a file)", func(_, c, _ map[string]any) { c["certificate-authority"] = "/etc/ssl/ca.pem" }},
		{"insecure-skip-tls-verify", func(_, c, _ map[string]any) { c["insecure-skip-tls-verify"] = true }},
		{"proxy-url", func(_, c, _ map[string]any) { c["proxy-url"] = "http://10.0.0.9:3128" }},
		{"as (impersonation)", func(_, _, u map[string]any) { u["as"] = "system:admin" }},
		{"as-uid (impersonation)", func(_, _, u map[string]any) { u["as-uid"] = "1" }},
		{"as-groups (impersonation)", func(_, _, u map[string]any) { u["as-groups"] = []any{"system:masters"} }},
		{"as-user-extra (impersonation)", func(_, _, u map[string]any) { u["as-user-extra"] = map[string]any{"a": []any{"b"}} }},
		{"username", func(_, _, u map[string]any) { u["username"] = "admin" }},
		{"password", func(_, _, u map[string]any) { u["password"] = "admin" }},
		{"not https", func(_, c, _ map[string]any) { c["server"] = "http://10.0.0.1:8080" }},
	} {
		t.Run(tt.field, func(t *testing.T) {
			_, f := ParseKubeconfig(edit(t, tt.change))
			if f == nil || f.Reason != model.ReasonUnsafeKubeconfig || !strings.Contains(f.Message, tt.field) {
				t.Errorf("got %+v, expected %s naming %q", f, model.ReasonUnsafeKubeconfig, tt.field)
			}
		})
	}
}

func TestKubeconfigBrokenOnesAreNamed_3_5(t *testing.T) {
	for _, tt := range []struct {
		says string
		data []byte
	}{
		{"cannot be read", []byte("{")},
		{"cannot be read", []byte("\x00\x01")},
		{"current-context is missing", nil},
		{"longer than", make([]byte, maxKubeconfig+1)},
		{"current-context names", edit(t, func(d, _, _ map[string]any) { d["current-context"] = "other" })},
		{"names cluster", edit(t, func(d, _, _ map[string]any) { d["clusters"] = []any{} })},
		{"names user", edit(t, func(d, _, _ map[string]any) { d["users"] = []any{} })},
		{"no URL", edit(t, func(_, c, _ map[string]any) { c["server"] = "10.0.0.1" })},
		{"no certificate-authority-data", edit(t, func(_, c, _ map[string]any) { delete(c, "certificate-authority-data") })},
		{"no PEM certificate", edit(t, func(_, c, _ map[string]any) { c["certificate-authority-data"] = "aGVsbG8=" })},
		{"neither a token", edit(t, func(_, _, u map[string]any) { delete(u, "token") })},
		{"without the other", edit(t, func(_, _, u map[string]any) { u["client-certificate-data"] = "aGVsbG8=" })},
		{"are no pair", edit(t, func(_, _, u map[string]any) {
			u["client-certificate-data"], u["client-key-data"] = "aGVsbG8=", "aGVsbG8="
		})},
		{"has a token with", edit(t, func(_, _, u map[string]any) { u["token"] = "a\r\nX-Evil: 1" })},
	} {
		t.Run(tt.says, func(t *testing.T) {
			_, f := ParseKubeconfig(tt.data)
			if f == nil || f.Reason != model.ReasonInvalidKubeconfig || !strings.Contains(f.Message, tt.says) {
				t.Errorf("got %+v, expected %s with %q", f, model.ReasonInvalidKubeconfig, tt.says)
			}
		})
	}
}

func TestKubeconfigTellsWhenCredentialsExpire(t *testing.T) {
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	cert, certPEM := certificate(t, "client", until)
	for name, tt := range map[string]struct {
		change         func(doc, cluster, user map[string]any)
		issued, expire time.Time
	}{
		"opaque token":  {func(_, _, u map[string]any) { u["token"] = "abc.def" }, time.Time{}, time.Time{}},
		"bound token":   {func(_, _, u map[string]any) { u["token"] = token(`{"iat":1700000000,"exp":1700003600}`) }, time.Unix(1700000000, 0), time.Unix(1700003600, 0)},
		"endless token": {func(_, _, u map[string]any) { u["token"] = token(`{"iat":1700000000}`) }, time.Unix(1700000000, 0), time.Time{}},
		"lying token":   {func(_, _, u map[string]any) { u["token"] = token(`{"exp":1e300}`) }, time.Time{}, time.Time{}},
		"strange token": {func(_, _, u map[string]any) { u["token"] = token(`{"exp":"soon"}`) }, time.Time{}, time.Time{}},
		"client's certificate": {func(_, _, u map[string]any) {
			delete(u, "token")
			u["client-certificate-data"], u["client-key-data"] = certPEM, keyPEM(t, cert)
		}, until.Add(-24 * time.Hour), until},
	} {
		t.Run(name, func(t *testing.T) {
			c, f := ParseKubeconfig(edit(t, tt.change))
			if f != nil {
				t.Fatal(f)
			}
			if !c.Expire.Equal(tt.expire) || !c.Issued.Equal(tt.issued) {
				t.Errorf("issued %v, expire %v, expected %v, %v", c.Issued, c.Expire, tt.issued, tt.expire)
			}
			if c.Config.Host != "https://10.0.0.1:6443" || len(c.Config.CAData) == 0 {
				t.Errorf("config is %v", c.Config)
			}
		})
	}
}

// FuzzParseKubeconfig checks that nothing in a Secret makes a connection that
// runs a program, reads a file or goes unchecked.
func FuzzParseKubeconfig(f *testing.F) {
	f.Add(kubeconfigOf("https://10.0.0.1", []byte("x"), "t"))
	f.Add([]byte("apiVersion: v1\nkind: Config\ncurrent-context: c\n"))
	f.Add([]byte(fmt.Sprintf(`{"current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"clusters":[{"name":"c","cluster":{"server":"https://a"}}],"users":[{"name":"u","user":{"exec":{"command":%q}}}]}`, "sh")))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, why := ParseKubeconfig(data)
		if (c == nil) == (why == nil) {
			t.Fatal("expected one of credentials and a failure")
		}
		if why != nil {
			if why.Reason != model.ReasonInvalidKubeconfig && why.Reason != model.ReasonUnsafeKubeconfig {
				t.Fatalf("reason %s", why.Reason)
			}
			return
		}
		cfg := c.Config
		if cfg.ExecProvider != nil || cfg.AuthProvider != nil || cfg.CAFile != "" || cfg.CertFile != "" || cfg.KeyFile != "" || cfg.BearerTokenFile != "" ||
			cfg.Insecure || cfg.Impersonate.UserName != "" || cfg.Proxy != nil || cfg.Username != "" || !strings.HasPrefix(cfg.Host, "https://") || len(cfg.CAData) == 0 {
			t.Fatalf("an unsafe config: %#v", cfg)
		}
	})
}
