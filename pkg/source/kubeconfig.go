package source

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/overland-net/overland/pkg/model"
)

// maxKubeconfig bounds a kubeconfig: a Secret's own limit.
const maxKubeconfig = 1 << 20

// Credentials are what a kubeconfig of a linked cluster says.
type Credentials struct {
	// Config connects with them. It has an https server, an inline CA and an
	// inline token or client certificate, and nothing else: it runs no program
	// and reads no file.
	Config *rest.Config
	// Expire is when they do, Issued since when they are good, by what they say
	// themselves; zero if they do not say.
	Expire, Issued time.Time
}

// ParseKubeconfig reads a kubeconfig of a linked cluster. Who can write it must
// not be able to run programs on a node, read its files or leave TLS unchecked:
// such a one is refused with ReasonUnsafeKubeconfig, one that cannot be used
// with ReasonInvalidKubeconfig, and the message names the field.
func ParseKubeconfig(data []byte) (*Credentials, *Failure) {
	if len(data) > maxKubeconfig {
		return nil, invalidKubeconfig("is longer than %d bytes", maxKubeconfig)
	}
	cfg, err := clientcmd.Load(data)
	if err != nil {
		return nil, invalidKubeconfig("cannot be read (%s)", words(err))
	}
	if cfg.CurrentContext == "" {
		return nil, invalidKubeconfig("current-context is missing")
	}
	context := cfg.Contexts[cfg.CurrentContext]
	if context == nil {
		return nil, invalidKubeconfig("current-context names context %q, which it does not have", printable(cfg.CurrentContext, 80))
	}
	cluster, user := cfg.Clusters[context.Cluster], cfg.AuthInfos[context.AuthInfo]
	if cluster == nil {
		return nil, invalidKubeconfig("its context names cluster %q, which it does not have", printable(context.Cluster, 80))
	}
	if user == nil {
		return nil, invalidKubeconfig("its context names user %q, which it does not have", printable(context.AuthInfo, 80))
	}
	if field := unsafeField(cluster, user); field != "" {
		return nil, failure(model.ReasonUnsafeKubeconfig,
			"the kubeconfig has %s, which is not accepted: use an https server with certificate-authority-data, and a token or client-certificate-data with client-key-data (overland connect makes such a kubeconfig)", field)
	}
	return credentialsOf(cluster, user)
}

func invalidKubeconfig(format string, args ...any) *Failure {
	f := failure(model.ReasonInvalidKubeconfig, format, args...)
	f.Message = "the kubeconfig " + f.Message + ": expected one as overland connect makes it"
	return f
}

// unsafeField names the first field that is not accepted.
func unsafeField(cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) string {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"insecure-skip-tls-verify", cluster.InsecureSkipTLSVerify},
		{"certificate-authority (a file)", cluster.CertificateAuthority != ""},
		{"proxy-url", cluster.ProxyURL != ""},
		{"exec", user.Exec != nil},
		{"auth-provider", user.AuthProvider != nil},
		{"client-certificate (a file)", user.ClientCertificate != ""},
		{"client-key (a file)", user.ClientKey != ""},
		{"tokenFile", user.TokenFile != ""},
		{"as (impersonation)", user.Impersonate != ""},
		{"as-uid (impersonation)", user.ImpersonateUID != ""},
		{"as-groups (impersonation)", len(user.ImpersonateGroups) > 0},
		{"as-user-extra (impersonation)", len(user.ImpersonateUserExtra) > 0},
		{"username", user.Username != ""},
		{"password", user.Password != ""},
	} {
		if f.set {
			return f.name
		}
	}
	return ""
}

func credentialsOf(cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) (*Credentials, *Failure) {
	server, err := url.Parse(cluster.Server)
	switch {
	case err != nil || server.Host == "":
		return nil, invalidKubeconfig("has server %q, which is no URL", printable(cluster.Server, 80))
	case server.Scheme != "https":
		return nil, failure(model.ReasonUnsafeKubeconfig, "the kubeconfig has server %q, which is not https: use an https server", printable(cluster.Server, 80))
	case server.User != nil || server.RawQuery != "" || server.Fragment != "":
		return nil, invalidKubeconfig("has a server with more than a host, a port and a path")
	case len(cluster.CertificateAuthorityData) == 0:
		return nil, invalidKubeconfig("has no certificate-authority-data")
	case !x509.NewCertPool().AppendCertsFromPEM(cluster.CertificateAuthorityData):
		return nil, invalidKubeconfig("has no PEM certificate in certificate-authority-data")
	}
	c := &Credentials{Config: &rest.Config{
		Host: cluster.Server,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:     cluster.CertificateAuthorityData,
			ServerName: cluster.TLSServerName,
		},
		DisableCompression: cluster.DisableCompression,
	}}
	if f := c.authenticate(user); f != nil {
		return nil, f
	}
	return c, nil
}

func (c *Credentials) authenticate(user *clientcmdapi.AuthInfo) *Failure {
	certificate, key := user.ClientCertificateData, user.ClientKeyData
	switch {
	case user.Token == "" && len(certificate) == 0:
		return invalidKubeconfig("has neither a token nor client-certificate-data")
	case (len(certificate) == 0) != (len(key) == 0):
		return invalidKubeconfig("has one of client-certificate-data and client-key-data without the other")
	case strings.ContainsFunc(user.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return invalidKubeconfig("has a token with blanks or other characters that no token has")
	}
	if len(certificate) > 0 {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return invalidKubeconfig("has client-certificate-data and client-key-data that are no pair (%s)", words(err))
		}
		c.Config.CertData, c.Config.KeyData = certificate, key
		c.Issued, c.Expire = pair.Leaf.NotBefore, pair.Leaf.NotAfter
	}
	if user.Token != "" {
		c.Config.BearerToken = user.Token
		issued, expire := tokenTimes(user.Token)
		if c.Expire.IsZero() || !expire.IsZero() && expire.Before(c.Expire) {
			c.Issued, c.Expire = issued, expire
		}
	}
	return nil
}

// tokenTimes reads iat and exp of a token that is a JWT. They are taken for what
// they are: the token's own word, which only its issuer can check.
func tokenTimes(token string) (issued, expire time.Time) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}, time.Time{}
	}
	var claims struct {
		Exp float64 `json:"exp"`
		Iat float64 `json:"iat"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return time.Time{}, time.Time{}
	}
	return unixTime(claims.Iat), unixTime(claims.Exp)
}

// unixTime is zero for what is no time between 1970 and 9999.
func unixTime(seconds float64) time.Time {
	const last = 253402300799
	if !(seconds > 0) || seconds > last {
		return time.Time{}
	}
	whole := math.Floor(seconds)
	return time.Unix(int64(whole), 0).UTC()
}
