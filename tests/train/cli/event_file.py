"""Reads TensorBoard event files strictly: every checksum, every length, every field known. Independent of the writer:
the checksum is computed bit by bit, the wire format decoded from its description."""

import struct


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    at = 0
    while at < len(data):
        header, (length_crc,) = data[at : at + 8], struct.unpack_from("<I", data, at + 8)
        assert masked(header) == length_crc, f"length checksum at byte {at}"
        (length,) = struct.unpack("<Q", header)
        payload = data[at + 12 : at + 12 + length]
        assert len(payload) == length, f"record at byte {at} is cut short"
        (crc,) = struct.unpack_from("<I", data, at + 12 + length)
        assert masked(payload) == crc, f"checksum at byte {at}"
        yield payload
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def message(data, fields):
    """[(name, value), ...] of a protocol buffer; `fields` maps numbers to (name, wire type)."""
    at, found = 0, []
    while at < len(data):
        tag, at = varint(data, at)
        name, wire_type = fields[tag >> 3]
        assert tag & 7 == wire_type, f"{name} has wire type {tag & 7}"
        if wire_type == 0:
            value, at = varint(data, at)
        elif wire_type == 1:
            (value,), at = struct.unpack_from("<d", data, at), at + 8
        elif wire_type == 5:
            (value,), at = struct.unpack_from("<f", data, at), at + 4
        else:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
            assert len(value) == size
        found.append((name, value))
    assert at == len(data)
    return found


EVENT = {1: ("wall_time", 1), 2: ("step", 0), 3: ("file_version", 2), 5: ("summary", 2), 7: ("session_log", 2)}


def events(path):
    """[{wall_time, step, and one of file_version, purges, scalars}, ...]"""
    result = []
    for payload in records(path.read_bytes()):
        event = dict(message(payload, EVENT))
        assert set(event) & {"wall_time", "step"} == {"wall_time", "step"} and len(event) == 3
        if "session_log" in event:
            assert message(event.pop("session_log"), {1: ("status", 0)}) == [("status", 1)]  # START
            event["purges"] = True
        if "summary" in event:
            event["scalars"] = {}
            for name, value in message(event.pop("summary"), {1: ("value", 2)}):
                fields = dict(message(value, {1: ("tag", 2), 2: ("simple_value", 5)}))
                assert fields["tag"].decode() not in event["scalars"]
                event["scalars"][fields["tag"].decode()] = fields["simple_value"]
        result.append(event)
    assert result[0].pop("file_version") == b"brain.Event:2"
    return result[1:]


def series(folder):
    """{tag: {step: value}} as TensorBoard shows a folder: files in the order of their names, a restart forgets the
    steps from its own on."""
    shown = {}
    for path in sorted(folder.iterdir()):
        assert path.name.startswith("events.out.tfevents.")
        for event in events(path):
            if event.get("purges"):
                for values in shown.values():
                    for step in [step for step in values if step >= event["step"]]:
                        del values[step]
            for tag, value in event.get("scalars", {}).items():
                assert event["step"] not in shown.setdefault(tag, {}), f"{tag} twice at step {event['step']}"
                shown[tag][event["step"]] = value
    return shown
