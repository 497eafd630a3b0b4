package model

import (
	"crypto/sha256"
	"encoding/hex"
)

// UID is the uid of an object: a UUID, as API servers give them, in its 16
// bytes. The zero value is no uid.
type UID [16]byte

// ParseUID reads a uid. Text that is no UUID, which only something that is not
// a real API server gives, becomes a hash of itself: unique, if unreadable.
func ParseUID(s string) UID {
	if s == "" {
		return UID{}
	}
	if u, ok := parseUUID(s); ok {
		return u
	}
	sum := sha256.Sum256([]byte(s))
	return UID(sum[:16])
}

func parseUUID(s string) (u UID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return UID{}, false
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(u[:], []byte(digits)); err != nil {
		return UID{}, false
	}
	return u, true
}

// String is the usual form, empty for no uid.
func (u UID) String() string {
	if u == (UID{}) {
		return ""
	}
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
