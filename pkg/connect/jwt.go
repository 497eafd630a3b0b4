package connect

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// tokenAccount is the uid of the ServiceAccount that a token says it is of; empty
// if it does not say. It is only compared, never believed.
func tokenAccount(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Kubernetes struct {
			ServiceAccount struct {
				UID string `json:"uid"`
			} `json:"serviceaccount"`
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return ""
	}
	return claims.Kubernetes.ServiceAccount.UID
}
