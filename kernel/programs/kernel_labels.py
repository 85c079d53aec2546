"""The labels of the kernel's assembly that checks and tools know by name, each here only: a test finds others.

A label that is renamed in the assembly would otherwise leave a tool that compares names, and says nothing.
"""

from typing import Final

# Gates: where they are entered, where a direct switch has given the CPU to a thread, and the RETF that leaves them.
SYSTEM_GATE: Final = "system_gate"
IPC_GATE: Final = "ipc_gate"
IPC_GATE_ARRIVED: Final = "ipc_gate.arrived"
IPC_GATE_LEAVING: Final = "ipc_gate.leaving"
SERVER_GATE: Final = "server_gate"
SERVER_GATE_ARRIVED: Final = "server_gate.arrived"
SERVER_GATE_LEAVING: Final = "server_gate.leaving"
LEAVE_END: Final = "leave_end"

# Where another thread goes on than the one that has run: chosen in turn, or switched to directly.
SWITCH_RESUME: Final = "switch_resume"
DIRECT_SWITCHES: Final = (IPC_GATE_ARRIVED, SERVER_GATE_ARRIVED)

# Slots and requests.
TAKE_SLOT: Final = "take_slot"
TAKE_SLOT_QUEUE: Final = "take_slot.queue"
TAKE_SLOT_WAIT: Final = "take_slot.wait"
POST_SLOT: Final = "post_slot"
TAKE_AND_FILL: Final = "take_and_fill"
IPC_REQUEST: Final = "ipc_request"
IPC_POST_SLOT: Final = "ipc_post_slot"
IPC_POST_BATCH: Final = "ipc_post_batch"

# Other routines.
EXIT_THREAD: Final = "exit_thread"
POLICY_END: Final = "policy_end"
SORT_SECTORS: Final = "sort_sectors"

# Data, and what descriptors lead to.
TASK_STATE: Final = "task_state"
SERVER_TABLE: Final = "server_table"
NO_ENDPOINT: Final = "no_endpoint"
NO_ENDPOINT_END: Final = "no_endpoint_end"
POLLED_DATA: Final = "polled_data"
