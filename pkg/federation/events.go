package federation

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/overland-net/overland/pkg/model"
)

// The reasons of Events on policies; see ProblemReason.
const (
	ReasonPolicyNotUnderstood = "PolicyNotUnderstood" // semantics 2.12
	ReasonPeerScopeIgnored    = "PeerScopeIgnored"    // semantics 2.3
)

const (
	// reporter is who writes Events, as the API server wants it: a qualified name.
	reporter = "overland.dev/agent"
	// What was being done.
	policyAction, serviceAction = "Translate", "Federate"
	// maxNote and maxInstance are the lengths that the API server takes.
	maxNote, maxInstance = 1024, 128
)

// ProblemReason is the reason of an Event about a Problem of a policy.
func ProblemReason(kind model.ProblemKind) string {
	switch kind {
	case model.ProblemPolicy:
		return ReasonPolicyNotUnderstood
	case model.ProblemPeerScope:
		return ReasonPeerScopeIgnored
	}
	return string(kind)
}

// subject is an object that Events are about.
type subject struct {
	key model.Key
	uid model.UID
	// edition is what the object says, as far as findings depend on it: there is
	// one Event of each reason for it.
	edition string
}

func policySubject(p *model.Policy) subject {
	return subject{p.Key, p.UID, strconv.FormatInt(p.Generation, 10)}
}

// serviceSubject is a federated Service. Services have no generation: the edition
// is what declares it federated.
func serviceSubject(s *model.Service) subject {
	sum := sha256.New()
	for _, key := range [...]string{model.AnnotationServiceSelector, model.AnnotationServiceSelectorTigera, model.AnnotationServiceSelectorTigeraWWW} {
		value, there := s.Annotations[key]
		_, _ = fmt.Fprintf(sum, "%v %q\n", there, value)
	}
	return subject{s.Key, s.UID, hex.EncodeToString(sum.Sum(nil)[:12])}
}

// finding is what one Event says: all Problems of one kind of one policy, or the
// condition of a federated Service.
type finding struct {
	subject
	reason string
	note   string
}

// found are all findings about one object.
type found struct {
	subject
	findings []finding
}

// compareFindings puts them in the order in which they are written.
func compareFindings(a, b finding) int {
	return cmp.Or(
		strings.Compare(a.key.Namespace, b.key.Namespace),
		cmp.Compare(a.key.Kind, b.key.Kind),
		strings.Compare(a.key.Name, b.key.Name),
		strings.Compare(a.reason, b.reason),
	)
}

// findings are those about a policy with these Problems: those of its own object,
// one a kind, sorted.
func findings(p *model.Policy, problems []model.Problem) []finding {
	byReason := map[string][]string{}
	for _, m := range problems {
		if m.Object == p.Key {
			reason := ProblemReason(m.Kind)
			byReason[reason] = append(byReason[reason], m.Message)
		}
	}
	var all []finding
	for reason, messages := range byReason {
		all = append(all, finding{policySubject(p), reason, joined(messages, maxNote)})
	}
	slices.SortFunc(all, compareFindings)
	return all
}

// joined is messages one after the other, as many as fit, and how many do not.
func joined(messages []string, most int) string {
	const tail = len("; and 1000000000 more")
	text := ""
	for i, m := range messages {
		next := text
		if i > 0 {
			next += "; "
		}
		next += m
		if len(next) > most || i < len(messages)-1 && len(next) > most-tail {
			if i == 0 {
				text = clip(m, most-tail)
				i = 1
			}
			if rest := len(messages) - i; rest > 0 {
				text += fmt.Sprintf("; and %d more", rest)
			}
			return text
		}
		text = next
	}
	return text
}

// event is the Event of a finding. Its name is made of what it may be written
// once for, so that another leader finds it there.
func (n finding) event(now time.Time, instance string) *eventsv1.Event {
	version, action := "networking.k8s.io/v1", policyAction
	if n.key.Kind == model.KindService {
		version, action = "v1", serviceAction
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "v1 %s %s %s", n.uid, n.reason, n.edition))
	const longest = 200 // with the rest it is less than the 253 that a name may have
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: n.key.Namespace,
			Name:      strings.TrimRight(clip(n.key.Name, longest), "-.") + "." + hex.EncodeToString(sum[:12]),
		},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: reporter,
		ReportingInstance:   clip(instance, maxInstance),
		Action:              action,
		Reason:              n.reason,
		Regarding: corev1.ObjectReference{
			APIVersion: version, Kind: n.key.Kind.String(),
			Namespace: n.key.Namespace, Name: n.key.Name, UID: types.UID(n.uid.String()),
		},
		Note: strings.ToValidUTF8(n.note, "?"),
		Type: corev1.EventTypeWarning,
	}
}
