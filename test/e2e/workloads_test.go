package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/overland-net/overland/test/lab/labtest"
)

const rollingDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {version: "VERSION"}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: netprobe
        image: netprobe
        args: ARGS
        readinessProbe: {httpGet: {path: /healthz, port: 8081}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}
`

func TestNoRequestFailsWhileADeploymentRolls(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "rolling")
	version := func(v string) string {
		return fill(rollingDeployment, "VERSION", v, "ARGS", serving(port, httpPort))
	}
	n.Apply(version("1") + "---" + service("web", "web", "") + server("client", ""))
	n.Deployment("web")
	before := n.Pods("app=web", 3)
	client := n.Pod("client")
	target := labtest.Target("tcp", clusterIPs(t, n, "web")[0], 80)
	labtest.Eventually(t, labtest.Probe{From: labtest.FromPodNetwork(client), To: target})

	ctx, stop := context.WithCancel(t.Context())
	type outcome struct {
		asked  int
		failed []string
	}
	done := make(chan outcome)
	go func() {
		var o outcome
		for ctx.Err() == nil {
			results, err := labtest.Ask(t.Context(), labtest.FromPodNetwork(client), slices.Repeat([]string{target}, 8)...)
			if err != nil {
				o.failed = append(o.failed, err.Error())
			}
			for _, r := range results {
				o.asked++
				if !r.OK {
					o.failed = append(o.failed, fmt.Sprintf("%s: %s", r.Kind, r.Error))
				}
			}
		}
		done <- o
	}()
	n.Apply(version("2"))
	n.Deployment("web")
	after := n.Pods("app=web", 3)
	stop()
	o := <-done
	t.Logf("%d requests while 3 pods were replaced", o.asked)
	if len(o.failed) > 0 {
		t.Errorf("%d of %d requests failed:\n%s", len(o.failed), o.asked, strings.Join(o.failed, "\n"))
	}
	for _, old := range before {
		if slices.ContainsFunc(after, func(p *labtest.Pod) bool { return p.UID == old.UID }) {
			t.Errorf("%s was not replaced", old)
		}
	}
}

func TestAPodOfAStatefulSetKeepsItsNameAndGetsANewAddress(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "stateful")
	n.Apply(fill(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: netprobe, image: netprobe, args: ARGS}]
---
`, "ARGS", serving(port, httpPort)) + service("db", "db", "clusterIP: None") + server("client", ""))
	before := n.Pods("app=db", 2)
	if before[0].Name != "db-0" || before[1].Name != "db-1" {
		t.Fatalf("the pods are %v", before)
	}
	kubectl(t, n, "delete", "pod", "db-0", "--wait=false")
	after := n.PodWhen("db-0", "Ready and another", func(p *v1.Pod) bool {
		return string(p.UID) != before[0].UID && slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
			return c.Type == v1.PodReady && c.Status == v1.ConditionTrue
		})
	})
	if after.Addresses[0] == before[0].Addresses[0] {
		t.Errorf("the new pod has the old one's address %s", after.Addresses[0])
	}
	client := n.Pod("client")
	labtest.Eventually(t, labtest.Probe{
		From: labtest.FromPod(client), To: labtest.Target("tcp", "db-0.db", port),
		Want: labtest.Want{Server: "db-0", Source: client.Address(4)},
	})
}

func TestADaemonSetHasAPodOnEachNode(t *testing.T) {
	t.Parallel()
	for _, pods := range [][]*labtest.Pod{worldPods(t, "a"), worldPods(t, "host")} {
		var got, want []string
		for _, p := range pods {
			got = append(got, p.NodePath())
		}
		for _, c := range lab.Clusters {
			for _, node := range c.Nodes {
				want = append(want, node.Path())
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("the pods are on %v, the nodes are %v", got, want)
		}
	}
}

func TestAJobEndsAndInitContainersRunInOrderBefore(t *testing.T) {
	t.Parallel()
	n := canada().NewNamespace(t, "job")
	n.Apply(`
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec:
  backoffLimit: 4
  template:
    spec:
      restartPolicy: Never
      volumes: [{name: work, emptyDir: {}}]
      initContainers:
      - {name: first, image: busybox, command: [sh, -c, 'echo first >>/work/log'], volumeMounts: [{name: work, mountPath: /work}]}
      - {name: second, image: busybox, command: [sh, -c, 'echo second >>/work/log'], volumeMounts: [{name: work, mountPath: /work}]}
      containers:
      - {name: main, image: busybox, command: [cat, /work/log], volumeMounts: [{name: work, mountPath: /work}]}
`)
	n.Wait("the Job to complete", func(ctx context.Context) (string, bool, error) {
		job, err := n.Client.BatchV1().Jobs(n.Name).Get(ctx, "job", metav1.GetOptions{})
		if err != nil {
			return "", false, err
		}
		return fmt.Sprintf("%d ended, %d failed", job.Status.Succeeded, job.Status.Failed), job.Status.Succeeded == 1, nil
	})
	if got := kubectl(t, n, "logs", "job/job"); got != "first\nsecond\n" {
		t.Errorf("the init containers left %q", got)
	}
}

func TestAFailingLivenessProbeRestartsTheContainerInTheSamePod(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "liveness")
	n.Apply(shell("sick", "touch /tmp/well; sleep 2; rm /tmp/well; "+idle,
		"livenessProbe: {exec: {command: [cat, /tmp/well]}, periodSeconds: 1, failureThreshold: 1}"))
	first := n.PodWhen("sick", "running", func(p *v1.Pod) bool { return p.Status.Phase == v1.PodRunning })
	again := n.PodWhen("sick", "restarted", func(p *v1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount >= 1
	})
	if first.UID != again.UID || !slices.Equal(first.Addresses, again.Addresses) {
		t.Errorf("the pod changed from %s %v to %s %v", first.UID, first.Addresses, again.UID, again.Addresses)
	}
	if last := again.Status("busybox").LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
		t.Errorf("the last end should be by SIGKILL, is %+v", last)
	}
}

func TestAnUnknownImageIsRefusedWithTheNamesOfThoseThatExist(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "image")
	n.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec:
  containers: [{name: main, image: "example.net/some/thing:1.0"}]
`)
	n.PodWhen("unknown", "waiting with ErrImagePull and the images' names", func(p *v1.Pod) bool {
		if len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].State.Waiting == nil {
			return false
		}
		waiting := p.Status.ContainerStatuses[0].State.Waiting
		return waiting.Reason == "ErrImagePull" && strings.Contains(waiting.Message, "agnhost, busybox") &&
			strings.Contains(waiting.Message, "netprobe")
	})
}

func TestAPodUsesItsServiceAccountAtTheAPIServer(t *testing.T) {
	t.Parallel()
	n := canada().NewNamespace(t, "account")
	n.Apply(fill(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: reader, namespace: NAMESPACE}]
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  serviceAccountName: reader
  terminationGracePeriodSeconds: 0
  containers: [{name: kubectl, image: kubectl, command: [sleep, "100000"]}]
`, "NAMESPACE", n.Name))
	pod := n.Pod("reader")
	n.Wait("the pod to list pods", func(context.Context) (string, bool, error) {
		out := pod.Exec(t, "kubectl", "get", "pods", "-o", "name")
		return out.String(), out.Code == 0 && out.Stdout == "pod/reader\n", nil
	})
	if out := pod.Exec(t, "kubectl", "delete", "pod", "reader"); out.Code == 0 || !strings.Contains(out.Stderr, "system:serviceaccount:"+n.Name+":reader") {
		t.Errorf("a deletion should be forbidden to the account: %s", out)
	}
}

func TestAgnhostOfManifestsWrittenForRealClustersServes(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "agnhost")
	n.Apply(`
apiVersion: v1
kind: Pod
metadata: {name: agnhost}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: agnhost
    image: registry.k8s.io/e2e-test-images/agnhost:2.53
    args: [netexec, --http-port=8080, --udp-port=8081]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
`)
	pod := n.Pod("agnhost")
	for _, family := range families() {
		url := strings.TrimPrefix(labtest.Target("tcp", pod.Address(family).String(), 8080), "tcp://") + "/hostname"
		if out := pod.Exec(t, "/agnhost", "connect", strings.TrimSuffix(url, "/hostname"), "--timeout=3s"); out.Code != 0 {
			t.Errorf("agnhost does not answer at %s: %s", url, out)
		}
	}
}

func TestGraceIsGivenToAContainerThatUsesIt(t *testing.T) {
	t.Parallel()
	n := west().NewNamespace(t, "grace")
	n.Apply(strings.Replace(shell("polite", `trap "echo stopping; sleep 1; echo stopped; exit 0" TERM; echo ready; while true; do sleep 0.1; done`, ""),
		"terminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: 30", 1))
	n.Pod("polite")
	command, where, err := n.KubectlCommand(t.Context(), "-n", n.Name, "logs", "-f", "polite")
	if err != nil {
		t.Fatal(err)
	}
	lines := start(t, command, where)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the pod said %q", lines.Text())
	}
	began := time.Now()
	kubectl(t, n, "delete", "pod", "polite")
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
	}
	if !slices.Equal(said, []string{"stopping", "stopped"}) {
		t.Errorf("the pod said %q while it was stopped", said)
	}
	if took := time.Since(began); took < time.Second || took > 25*time.Second {
		t.Errorf("stopping took %s, which is not how long the container took", took)
	}
}
