package policy

// policyCase is policies of west and what they let pass. Names cite the cases of
// the test list.
type policyCase struct {
	name, policies, probes string
}

func allCases() []policyCase {
	return concat(isolationCases(), ruleCases(), portCases(), blockCases(), selectorCases(), placeCases())
}

func concat(lists ...[]policyCase) []policyCase {
	var all []policyCase
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// server isolates the pod server against all but one ingress rule.
func server(rule string) string {
	return npol("server", "{podSelector: {matchLabels: {app: server}}, ingress: ["+rule+"]}")
}

// client isolates the pods client and client2, as far as they send, but for one
// egress rule.
func client(rule string) string {
	return npol("client", "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: ["+rule+"]}")
}

func isolationCases() []policyCase {
	return []policyCase{
		{"deny all ingress_6_32_33_42", npol("deny", "{podSelector: {}, policyTypes: [Ingress]}"), `
			deny a/client a/server tcp/80 udp/80 sctp/80 icmp
			deny a/client2 a/server tcp/80 udp/80 sctp/80
			deny b/client a/other tcp/81
			deny canada:a/client a/server tcp/80
			deny outside a/server tcp/80 icmp
			deny node-2 a/server tcp/80 icmp
			pass node-1 a/server tcp/80 udp/80 icmp
			pass a/server b/client tcp/80 udp/80 sctp/80 icmp`},
		{"deny all egress_7_34", npol("deny", "{podSelector: {}, policyTypes: [Egress]}"), `
			deny a/client b/client tcp/80 udp/80 sctp/80 icmp
			deny a/client a/server tcp/80
			deny a/server canada:a/client tcp/80
			deny a/client node-2 tcp/18090 icmp
			pass a/client node-1 tcp/18090 icmp
			pass b/client a/server tcp/80 udp/80 sctp/80 icmp
			pass outside a/server tcp/80`},
		{"an ingress list that is empty, and one with an empty rule_6", npol("none", "{podSelector: {matchLabels: {app: other}}, ingress: []}") +
			server("{}"), `
			deny a/client a/other tcp/81
			pass a/client a/server tcp/80 udp/80 sctp/80 icmp
			pass outside a/server tcp/80
			pass a/other a/client tcp/80`},
		{"no peers and no ports mean all_4_5", npol("all", "{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress, Egress], ingress: [{from: [], ports: []}]}"), `
			pass a/client a/server tcp/80 udp/81 sctp/80 icmp
			pass canada:a/client a/server tcp/80
			pass outside a/server tcp/80 icmp
			deny a/server b/client tcp/80 udp/80 icmp`},
		{"types by default_7", npol("both", "{podSelector: {matchLabels: {app: server}}, egress: [{to: [{podSelector: {}}]}]}"), `
			deny a/client a/server tcp/80
			deny a/server b/client tcp/80
			pass a/server a/other tcp/81 icmp`},
		{"policies are a union_8", server("{from: [{podSelector: {matchLabels: {app: other}}}]}") +
			npol("more", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}], ports: [{port: 81}]}]}"), `
			pass a/other a/server tcp/80
			pass b/client a/server tcp/81
			deny b/client a/server tcp/80
			deny a/client a/server tcp/80 tcp/81`},
		{"both sides have to allow_9", server("{from: [{podSelector: {}}], ports: [{port: 80}, {port: 81}]}") +
			client("{to: [{podSelector: {}}], ports: [{port: 81}, {port: 82}]}"), `
			pass a/client a/server tcp/81
			pass a/client2 a/server tcp/81
			deny a/client a/server tcp/80 tcp/82
			deny a/client2 a/server tcp/80 tcp/82`},
		{"names of 253 characters_45", npol(long("ingress"), "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]}") +
			npol(long("another"), "{podSelector: {matchLabels: {app: other}}, ingress: [{ports: [{port: 81}]}]}"), `
			pass a/client a/server tcp/80
			deny b/client a/server tcp/80
			pass b/client a/other tcp/81
			deny b/client a/other tcp/80`},
	}
}

func ruleCases() []policyCase {
	return []policyCase{
		{"two selectors in one peer are both required_2", server("{from: [{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchLabels: {app: client}}}]}"), `
			pass b/client a/server tcp/80 udp/80 sctp/80
			deny b/bare a/server tcp/80
			deny a/client a/server tcp/80 udp/80 sctp/80
			deny canada:b/client a/server tcp/80`},
		{"two peers are alternatives_2", server("{from: [{namespaceSelector: {matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: client}}}]}"), `
			pass b/client a/server tcp/80
			pass b/bare a/server tcp/80
			pass a/client a/server tcp/80
			deny a/other a/server tcp/80`},
		{"peers and ports of a rule are both required, rules are alternatives_3", server(
			"{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}]}, {from: [{podSelector: {matchLabels: {app: other}}}], ports: [{port: 81}]}"), `
			pass a/client a/server tcp/80
			deny a/client a/server tcp/81
			pass a/other a/server tcp/81
			deny a/other a/server tcp/80`},
		{"a pod selector alone stays in its namespace_1", server("{from: [{podSelector: {}}]}"), `
			pass a/client a/server tcp/80
			pass a/other a/server tcp/80
			deny b/client a/server tcp/80
			deny b/bare a/server tcp/80
			deny canada:a/client a/server tcp/80`},
		{"an empty namespace selector is every namespace_1_23", server("{from: [{namespaceSelector: {}}]}"), `
			pass a/client a/server tcp/80
			pass b/bare a/server tcp/80
			deny canada:b/client a/server tcp/80
			deny outside a/server tcp/80
			deny node-2 a/server tcp/80`},
	}
}

func portCases() []policyCase {
	return []policyCase{
		{"a named port is that of each pod_10", client("{to: [{podSelector: {}}], ports: [{port: web}]}"), `
			pass a/client a/server tcp/80
			deny a/client a/server tcp/81 udp/80
			pass a/client a/other tcp/81
			deny a/client a/other tcp/80`},
		{"a named port without peers_11", client("{ports: [{port: web}]}"), `
			pass a/client2 a/server tcp/80
			pass a/client2 a/other tcp/81
			deny a/client2 a/server tcp/81
			deny a/client2 canada:a/server tcp/82
			deny a/client2 outside icmp`},
		{"a named port and a range of addresses_11", client("{to: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: web}, {port: 82}]}"), `
			pass a/client a/server tcp4/82
			deny a/client a/server tcp4/80 tcp6/82`},
		{"a named port of ingress_10", npol("web", "{podSelector: {}, ingress: [{ports: [{port: web}]}]}"), `
			pass a/client a/server tcp/80
			pass b/client a/other tcp/81
			deny a/client a/server tcp/81
			deny b/client a/other tcp/80`},
		{"a named port of another protocol_12", server("{ports: [{port: web, protocol: UDP}, {port: dns, protocol: UDP}, {port: dns}, {port: 81}]}"), `
			pass a/client a/server udp/80 tcp/81
			deny a/client a/server tcp/80 udp/81`},
		{"named ports of init containers_13", npol("sidecar", "{podSelector: {matchLabels: {app: sidecar}}, ingress: [{ports: [{port: early}, {port: late}]}]}"), `
			pass a/client a/sidecar tcp/8080
			deny a/client a/sidecar tcp/80 tcp/81`},
		{"ranges of ports_14", server("{ports: [{port: 80, endPort: 81}, {port: 8080, endPort: 8080, protocol: UDP}]}"), `
			pass a/client a/server tcp/80 tcp/81 udp/8080
			deny a/client a/server tcp/82 tcp/8080 udp/80`},
		{"a protocol without a port, a port without a protocol_15", server("{ports: [{protocol: UDP}, {port: 81}]}"), `
			pass a/client a/server udp/80 udp/81 tcp/81
			deny a/client a/server tcp/80 sctp/81 icmp`},
		{"SCTP_16", server("{ports: [{port: 80, protocol: SCTP}]}") + client("{ports: [{port: 80, endPort: 81, protocol: SCTP}]}"), `
			pass a/client a/server sctp/80
			pass a/client2 a/server sctp/80
			pass b/client a/server sctp/80
			deny a/client a/server sctp/81 tcp/80 udp/80
			deny a/client b/client sctp/82
			pass a/client b/client sctp/81`},
	}
}

func blockCases() []policyCase {
	return []policyCase{
		{"exceptions of a range, families apart_17_20_21", server("{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [4(a/client)/32]}}]}"), `
			pass a/client2 a/server tcp4/80 udp4/80 sctp4/80 icmp4
			deny a/client a/server tcp4/80 udp4/80
			deny a/client2 a/server tcp6/80
			deny a/client a/server tcp6/80
			pass node-2 a/server tcp4/80
			deny outside a/server tcp/80
			deny canada:a/client a/server tcp/80`},
		{"what is excepted by one rule may be allowed by another_17", server(
			"{from: [{ipBlock: {cidr: 10.1.0.0/16, except: [4(a/client)/32]}}]}, {from: [{ipBlock: {cidr: 4(a/client)/32}}], ports: [{port: 81}]}"), `
			pass a/client a/server tcp4/81
			deny a/client a/server tcp4/80
			pass a/client2 a/server tcp4/80`},
		{"ranges in ranges with other ports_18", server(
			"{from: [{ipBlock: {cidr: 10.1.0.0/16}}], ports: [{port: 80}]}, {from: [{ipBlock: {cidr: 4(a/client)/32}}], ports: [{port: 81}]}"), `
			pass a/client a/server tcp4/80 tcp4/81
			pass a/client2 a/server tcp4/80
			deny a/client2 a/server tcp4/81`},
		{"all of a family_19_21", server(
			"{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [4(a/client)/32]}}]}, {from: [{ipBlock: {cidr: \"::/0\"}}], ports: [{port: 81}]}"), `
			pass outside a/server tcp4/80 tcp6/81
			pass a/client2 a/server tcp4/80 tcp6/81
			pass canada:a/client a/server tcp4/80
			deny a/client a/server tcp4/80 tcp4/81
			pass a/client a/server tcp6/81
			deny outside a/server tcp6/80
			deny a/client2 a/server tcp6/80`},
		{"all but all of it_19", server("{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [0.0.0.0/1, 128.0.0.0/2]}}]}"), `
			pass outside a/server tcp4/80
			deny a/client a/server tcp/80
			deny outside a/server tcp6/80`},
		{"ranges of another cluster_20", client("{to: [{ipBlock: {cidr: 4(canada:a/server)/32}}, {ipBlock: {cidr: 6(canada:a/server)/128}}], ports: [{port: 80}]}"), `
			pass a/client canada:a/server tcp/80
			deny a/client canada:a/server tcp/81
			deny a/client canada:a/client tcp/80
			deny a/client a/server tcp/80`},
	}
}

func selectorCases() []policyCase {
	return []policyCase{
		{"NotIn, for what has the key and what has not_22", server("{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [front, back]}]}}]}"), `
			pass a/client2 a/server tcp/80
			pass b/client a/server tcp/80
			deny a/client a/server tcp/80
			deny a/other a/server tcp/80
			deny outside a/server tcp/80
			deny node-2 a/server tcp/80`},
		{"DoesNotExist_22", server("{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}]}"), `
			pass b/client a/server tcp/80
			deny a/client2 a/server tcp/80
			deny a/client a/server tcp/80`},
		{"an empty value is a value_45", server("{from: [{namespaceSelector: {}, podSelector: {matchLabels: {tier: \"\"}}}]}"), `
			pass a/client2 a/server tcp/80
			deny b/client a/server tcp/80
			deny a/client a/server tcp/80`},
		{"labels and expressions are both required_46", server("{from: [{podSelector: {matchLabels: {app: client}, matchExpressions: [{key: tier, operator: In, values: [front, other]}]}}]}"), `
			pass a/client a/server tcp/80
			deny a/client2 a/server tcp/80
			deny a/other a/server tcp/80`},
		{"a negation matches pods only_23", server("{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [b]}]}}]}"), `
			pass a/client a/server tcp/80
			deny b/client a/server tcp/80
			deny outside a/server tcp/80
			deny node-2 a/server tcp/80
			deny canada:a/client a/server tcp/80`},
		{"the name of a namespace_24", server("{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: truth-b}}}]}"), `
			pass b/client a/server tcp/80
			pass b/bare a/server tcp/80
			deny a/client a/server tcp/80`},
	}
}

func placeCases() []policyCase {
	return []policyCase{
		{"egress to a Service is judged where it ends_35", client("{to: [{podSelector: {matchLabels: {app: server}}}], ports: [{port: 80}]}"), `
			pass a/client svc/server tcp/8000
			pass a/client2 svc/server tcp/8000
			deny a/client a/server tcp/8000
			deny a/client a/other tcp/80`},
		{"the port of a Service is not the pod's_35", client("{ports: [{port: 8000}]}"), `
			pass a/client a/server tcp/8000
			deny a/client svc/server tcp/8000`},
		{"a pod reaches itself through its Service_37", npol("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}"), `
			pass a/server svc/server tcp/8000
			deny a/client svc/server tcp/8000
			deny a/server a/client tcp/80`},
		{"node ports_36", server("{from: [{ipBlock: {cidr: 203.0.113.0/24}}, {ipBlock: {cidr: \"2001:db8::/32\"}}]}"), `
			pass outside node-1 tcp/30980
			deny outside node-2 tcp/30980
			pass outside a/server tcp/80
			deny b/client a/server tcp/80`},
		{"node ports under deny all_36", npol("deny", "{podSelector: {}, policyTypes: [Ingress]}"), `
			deny outside node-1 tcp/30980
			deny outside node-2 tcp/30980
			pass node-1 svc/server tcp/8000
			deny node-2 svc/server tcp/8000`},
		{"ICMP errors of what is allowed_42", server("{ports: [{port: 9999, protocol: UDP}]}") +
			npol("silent", "{podSelector: {matchLabels: {app: server}}, policyTypes: [Egress]}"), `
			refuse a/client a/server udp/9999
			refuse a/client2 a/server udp/9999
			deny a/client a/server udp/9998
			deny a/server a/client tcp/80`},
		{"pods on their node's network are its traffic_31", npol("deny", "{podSelector: {matchLabels: {app: host}}, policyTypes: [Ingress, Egress]}") +
			server("{from: [{podSelector: {matchLabels: {app: host}}}, {podSelector: {matchLabels: {app: other}}}]}"), `
			pass b/client node-1 tcp/18090
			pass b/client node-2 tcp/18090
			deny node-2 a/server tcp/80
			pass a/other a/server tcp/80
			deny a/client a/server tcp/80`},
		{"nodes as peers_2.6", server("{from: [{podSelector: {matchLabels: {overland.dev/kind: Node, kubernetes.io/hostname: node-2}}}]}") +
			client("{to: [{podSelector: {matchLabels: {overland.dev/kind: Node}}}]}"), `
			pass node-2 a/server tcp/80
			deny a/client2 a/server tcp/80
			deny canada:node-2 a/server tcp/80
			pass a/client node-2 tcp/18090
			deny a/client canada:node-1 tcp/18090
			deny a/client b/client tcp/80`},
		{"service accounts_2.2", server("{from: [{namespaceSelector: {}, podSelector: {matchLabels: {overland.dev/service-account: robot}}}]}"), `
			pass b/client a/server tcp/80
			deny b/bare a/server tcp/80
			deny a/client a/server tcp/80
			deny canada:b/client a/server tcp/80`},
		{"keys that mean nothing match nothing_2.2", server(
			"{from: [{podSelector: {matchExpressions: [{key: overland.dev/unheard-of, operator: DoesNotExist}]}}, {namespaceSelector: {matchExpressions: [{key: overland.dev/kind, operator: NotIn, values: [Node]}]}}], ports: [{port: 80}]}"), `
			deny a/client a/server tcp/80
			deny b/client a/server tcp/80
			deny a/other a/server tcp/80`},
	}
}
