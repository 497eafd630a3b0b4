package ipset

import (
	"net/netip"

	"github.com/overland-net/overland/pkg/dataplane/nfnl"
	"github.com/overland-net/overland/pkg/model"
)

// Commands, attributes and flags of include/uapi/linux/netfilter/ipset/ip_set.h.
const (
	cmdProtocol = 1
	cmdCreate   = 2
	cmdDestroy  = 3
	cmdList     = 7
	cmdAdd      = 9
	cmdDel      = 10
	cmdHeader   = 12
	cmdType     = 13

	attrProtocol    = 1
	attrSetName     = 2
	attrTypeName    = 3
	attrRevision    = 4
	attrFamily      = 5
	attrFlags       = 6
	attrData        = 7
	attrADT         = 8
	attrLine        = 9
	attrProtocolMin = 10
	attrRevisionMin = 10

	dataIP         = 1
	dataCIDR       = 3
	dataPort       = 4
	dataProto      = 7
	dataFlags      = 8
	dataLine       = 9
	dataHashSize   = 18
	dataMaxElem    = 19
	dataElements   = 24
	dataReferences = 25
	dataMemory     = 26

	ipV4 = 1
	ipV6 = 2

	listSetName = 1 << 1
	listHeader  = 1 << 2
	noMatch     = 1 << 2
)

const (
	protocolOldest = 6
	protocolNewest = 7
)

// maxElements is no limit, in the kernel's terms; it costs nothing.
const maxElements = 1<<32 - 1

// What goes into one message: the list of elements is one attribute, whose
// length is 16 bits wide, and more than 2,000 elements gain nothing.
const (
	maxBatch     = 2000
	maxBatchSize = 62_000
	largest      = 56 // of an element, of any type
)

// encoder writes the messages of one connection.
type encoder struct{ protocol uint8 }

func (e encoder) begin(b *nfnl.Batch, command uint8, flags uint16, family uint8, name string) {
	b.Begin(nfnl.IPSet, command, flags, family)
	b.Uint8(attrProtocol, e.protocol)
	if name != "" {
		b.Text(attrSetName, name)
	}
}

func (e encoder) create(b *nfnl.Batch, s Set, flags uint16) {
	e.begin(b, cmdCreate, flags, familyNumber(s.Family), s.Name)
	b.Text(attrTypeName, string(s.Type))
	b.Uint8(attrRevision, s.Type.revision())
	b.Uint8(attrFamily, familyNumber(s.Family))
	data := b.Nest(attrData)
	b.Uint32(net(dataHashSize), hashSize(s.Size))
	b.Uint32(net(dataMaxElem), maxElements)
	b.Close(data)
	b.End()
}

// element writes one, as number line of its message, so that the kernel can name
// it.
func element(b *nfnl.Batch, s Set, e Element, line uint32) {
	data := b.Nest(attrData)
	ip := b.Nest(dataIP)
	if e.Addr.Is4() {
		a := e.Addr.As4()
		b.Bytes(net(ipV4), a[:])
	} else {
		a := e.Addr.As16()
		b.Bytes(net(ipV6), a[:])
	}
	b.Close(ip)
	switch s.Type {
	case HashNet:
		b.Uint8(dataCIDR, e.Bits)
		if e.NoMatch {
			b.Uint32(net(dataFlags), noMatch)
		}
	case HashIPPort:
		b.Uint16(net(dataPort), e.Port)
		b.Uint8(dataProto, uint8(e.Protocol))
	case HashIP:
	}
	b.Native32(dataLine, line)
	b.Close(data)
}

// net marks an attribute as being in network byte order, which this subsystem
// insists upon.
func net(attr uint16) uint16 { return attr | 1<<14 }

// guilty is the number of the element that a refused message failed at.
func guilty(request []byte) (uint32, bool) {
	for kind, v := range nfnl.Attrs(request) {
		if kind == attrLine && len(v) == 4 {
			return nfnl.Native32(v), true
		}
	}
	return 0, false
}

// decodeHeader reads the attributes that describe a set.
func decodeHeader(b []byte) Header {
	var h Header
	for kind, v := range nfnl.Attrs(b) {
		switch kind {
		case attrSetName:
			h.Name = nfnl.Text(v)
		case attrTypeName:
			h.Type = Type(nfnl.Text(v))
		case attrFamily:
			h.Family = familyOf(nfnl.Uint8(v))
		case attrData:
			for kind, v := range nfnl.Attrs(v) {
				switch kind {
				case dataElements:
					h.Size = int(nfnl.Uint32(v))
				case dataReferences:
					h.References = int(nfnl.Uint32(v))
				case dataMaxElem:
					h.MaxElements = nfnl.Uint32(v)
				case dataMemory:
					h.Memory = nfnl.Uint32(v)
				}
			}
		}
	}
	return h
}

// decodeElements reads the elements of one message of a dump. What it does not
// understand has no address and is given as that: nothing is left out.
func decodeElements(b []byte, typ Type, each func(Element) error) error {
	for kind, v := range nfnl.Attrs(b) {
		if kind != attrADT {
			continue
		}
		for kind, v := range nfnl.Attrs(v) {
			if kind != attrData {
				continue
			}
			if err := each(decodeElement(v, typ)); err != nil {
				return err
			}
		}
	}
	return nil
}

func decodeElement(b []byte, typ Type) Element {
	var e Element
	for kind, v := range nfnl.Attrs(b) {
		switch kind {
		case dataIP:
			e.Addr = decodeAddr(v)
		case dataCIDR:
			if typ == HashNet {
				e.Bits = nfnl.Uint8(v)
			}
		case dataPort:
			e.Port = nfnl.Uint16(v)
		case dataProto:
			e.Protocol = model.Protocol(nfnl.Uint8(v))
		case dataFlags:
			e.NoMatch = nfnl.Uint32(v)&noMatch != 0
		}
	}
	if typ == HashNet && e.Bits == 0 && e.Addr.IsValid() {
		e.Bits = uint8(e.Addr.BitLen()) // the kernel may leave out the longest
	}
	return e
}

func decodeAddr(b []byte) netip.Addr {
	for kind, v := range nfnl.Attrs(b) {
		switch {
		case kind == ipV4 && len(v) == 4:
			return netip.AddrFrom4([4]byte(v))
		case kind == ipV6 && len(v) == 16:
			return netip.AddrFrom16([16]byte(v))
		}
	}
	return netip.Addr{}
}
